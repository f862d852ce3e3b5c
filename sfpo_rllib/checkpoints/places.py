"""Where a checkpoint lies: a folder of this machine, or of any file system that Tune can use."""

import logging
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

logger = logging.getLogger(__name__)

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
    if isinstance(path, Checkpoint):
        path, filesystem = path.path, path.filesystem
    text = os.fspath(path)
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
    above = folder.strip("/")  # not every file system begins its paths as we do
    return {
        info.path.strip("/").removeprefix(above).lstrip("/"): info.size
        for info in sorted(filesystem.get_file_info(selector), key=lambda info: info.path)
        if info.type == FileType.File
    }


def names_in(filesystem: FileSystem, folder: str) -> list[str]:
    """Names of what lies directly in a folder, sorted. Empty if there is no such folder."""
    selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
    return sorted(info.base_name for info in filesystem.get_file_info(selector))


def aside(folder: str) -> str:
    """Where a folder stands for the moment in which another one takes its place."""
    parent, name = os.path.split(folder)
    return os.path.join(parent, f".{name}.former")


def recover(filesystem: FileSystem, folder: str) -> None:
    """Puts a folder back that was left standing aside, if nothing has taken its place."""
    former = aside(folder)
    if (
        file_type(filesystem, folder) == FileType.NotFound
        and file_type(filesystem, former) == FileType.Directory
    ):
        logger.warning("%s was about to be replaced and is put back.", folder)
        filesystem.move(former, folder)


@contextmanager
def on_this_machine(filesystem: FileSystem, folder: str) -> Iterator[Path]:
    """The folder itself, or a copy of it for as long as the body runs."""
    if is_local(filesystem):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint_") as copy:
        for name in files_below(filesystem, folder):
            _copy(filesystem, f"{folder}/{name}", LocalFileSystem(), f"{copy}/{name}")
        yield Path(copy)


def upload(source: Path, filesystem: FileSystem, folder: str, *, first: str, last: str) -> None:
    """Copies a folder of this machine, one file after the other.

    Args:
        source: The folder.
        filesystem: Where to.
        folder: Path there.
        first: The file that is copied before all others.
        last: The one that is copied after them.
    """
    names = list(files_below(LocalFileSystem(), str(source)))
    for name in sorted(names, key=lambda name: (name == last, name != first)):
        _copy(LocalFileSystem(), f"{source}/{name}", filesystem, f"{folder}/{name}")


def _copy(source: FileSystem, path: str, target: FileSystem, target_path: str) -> None:
    target.create_dir(os.path.dirname(target_path), recursive=True)
    with (
        source.open_input_stream(path, compression=None) as read,
        target.open_output_stream(target_path, compression=None) as written,
    ):
        shutil.copyfileobj(read, written, 1 << 22)
