"""Where a checkpoint lies: a folder of this machine, or of any file system that Tune can use."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import pyarrow.fs
from pyarrow.fs import FileSystem, FileType, LocalFileSystem
from ray.train import Checkpoint

PathLike: TypeAlias = str | os.PathLike[str] | Checkpoint

_LOCAL_SCHEME = "file://"


def resolve(path: PathLike, filesystem: Any = None) -> tuple[FileSystem, str]:
    """The file system of a folder, and the folder's path in it.

    Args:
        path: A path, relative ones to the working directory; a URI; or a checkpoint of Tune's.
        filesystem: pyarrow's or fsspec's, that `path` is in. None: as `path` says, or this machine.

    Returns:
        Of folders on this machine pyarrow's LocalFileSystem and the absolute path.
    """
    text = os.fspath(path.path if isinstance(path, Checkpoint) else path)
    if isinstance(path, Checkpoint):
        filesystem = path.filesystem
    if filesystem is None and text.startswith(_LOCAL_SCHEME):
        text = unquote(text.removeprefix(_LOCAL_SCHEME))
    elif filesystem is None and "://" in text:
        return FileSystem.from_uri(text)
    if filesystem is None or isinstance(filesystem, LocalFileSystem):
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    if not isinstance(filesystem, FileSystem):
        filesystem = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem))
    return filesystem, text.rstrip("/")


def is_local(filesystem: FileSystem) -> bool:
    """Whether folders of it are this machine's."""
    return isinstance(filesystem, LocalFileSystem)


def file_type(filesystem: FileSystem, path: str) -> FileType:
    """What lies at a path: a file, a folder or nothing."""
    return filesystem.get_file_info(path).type


def files_below(filesystem: FileSystem, folder: str) -> dict[str, int]:
    """Sizes in bytes of all files in a folder, by their path in it, sorted. Empty if it is none."""
    selector = pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True)
    return {
        os.path.relpath(info.path, folder): info.size
        for info in sorted(filesystem.get_file_info(selector), key=lambda info: info.path)
        if info.type == FileType.File
    }


@contextmanager
def on_this_machine(filesystem: FileSystem, folder: str) -> Iterator[Path]:
    """The folder itself, or a copy of it for as long as the body runs."""
    if is_local(filesystem):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint_") as copy:
        pyarrow.fs.copy_files(folder, copy, source_filesystem=filesystem)
        yield Path(copy)


def upload(source: Path, filesystem: FileSystem, folder: str, *, last: str) -> None:
    """Copies a folder of this machine, one file after the other.

    Args:
        source: The folder.
        filesystem: Where to.
        folder: Path there.
        last: The file that is copied when all others are there.
    """
    names = sorted(files_below(LocalFileSystem(), str(source)), key=lambda name: name == last)
    for name in names:
        target = f"{folder}/{name}"
        filesystem.create_dir(os.path.dirname(target), recursive=True)
        with (
            open(source / name, "rb") as read,
            filesystem.open_output_stream(target, compression=None) as written,
        ):
            shutil.copyfileobj(read, written, 1 << 22)
