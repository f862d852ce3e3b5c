"""Folders that take the place of others at once: beside the target, synced, renamed."""

import ctypes
import errno
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from sfpo_rllib.checkpoints import places
from sfpo_rllib.checkpoints.manifest import (
    MANIFEST,
    METADATA,
    CheckpointError,
    own_files,
    write_manifest,
)

_UNFINISHED = f".checkpoint_unfinished-{socket.gethostname()}"
_at_work: set[Path] = set()  # in this process


@contextmanager
def new_checkpoint(filesystem: FileSystem, target: str) -> Iterator[Path]:
    """A folder to fill, which becomes the checkpoint at a path when the body ends.

    Until then, and for good if the body raises, what is there stays. So it does if the process or
    the machine dies. Files in the former checkpoint that are not its own are carried over.

    Args:
        filesystem: Where to; see `places.resolve`.
        target: The folder there.

    Raises:
        CheckpointError: If the checkpoint could not be saved, with the cause.
    """
    try:
        if places.is_local(filesystem):
            target = os.path.realpath(target)
        places.recover(filesystem, target)
        _delete(filesystem, places.aside(target))  # its place has been taken
        _require_checkpoint(filesystem, target)
        where = _beside(Path(target)) if places.is_local(filesystem) else _far(filesystem, target)
        with where as folder:
            yield folder
            write_manifest(folder)
    except Exception as error:
        raise CheckpointError(
            f"{target}: the checkpoint could not be saved, and what was there before is as it was: "
            f"{error or type(error).__name__}"
        ) from error


def _require_checkpoint(filesystem: FileSystem, target: str) -> None:
    """Raises if there is something else, which must not be lost."""
    if places.file_type(filesystem, target) == FileType.File:
        raise NotADirectoryError("it is a file, and must be a folder")
    names = places.names_in(filesystem, target)
    if names and not {MANIFEST, METADATA} & set(names):
        raise FileExistsError(
            "it must be a new folder, an empty one or a checkpoint, but is a folder with "
            f"{names[0]!r} in it"
        )


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder beside the target, which takes its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(target.parent)
    folder = target.parent / f"{_UNFINISHED}-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    _at_work.add(folder)
    try:
        yield folder
        if target.exists():
            shutil.copymode(target, folder)
            _carry_over(target, folder)
        _sync(folder)
        _put(folder, target)
    finally:
        places.recover(LocalFileSystem(), str(target))
        shutil.rmtree(folder, ignore_errors=True)  # what there is of it, or what it has replaced
        _at_work.discard(folder)


@contextmanager
def _far(filesystem: FileSystem, target: str) -> Iterator[Path]:
    """A folder for temporary files, which is copied to another file system, the manifest last."""
    with tempfile.TemporaryDirectory(prefix="checkpoint_") as folder:
        yield Path(folder)
        former = places.aside(target)
        replaces = bool(places.names_in(filesystem, target))
        # Not every file system can move folders, and a new one needs no move.
        new = f"{former}.{secrets.token_hex(4)}" if replaces else target
        try:
            places.upload(Path(folder), filesystem, new, first=METADATA, last=MANIFEST)
            if replaces:
                filesystem.move(target, former)
                filesystem.move(new, target)
        except BaseException:
            _delete(filesystem, new)
            raise
        finally:
            places.recover(filesystem, target)
            _delete(filesystem, former)


def _delete(filesystem: FileSystem, folder: str) -> None:
    if places.file_type(filesystem, folder) == FileType.Directory:
        filesystem.delete_dir(folder)


def _carry_over(former: Path, folder: Path) -> None:
    """Links files that somebody else has put into the former checkpoint."""
    for name in set(places.files_below(LocalFileSystem(), str(former))) - own_files(former):
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(former / name, folder / name, follow_symlinks=False)


def _put(folder: Path, target: Path) -> None:
    """Renames the folder to the target. What was there is then where the folder was, or gone."""
    if target.exists() and os.listdir(target):
        if not _exchange(folder, target):
            former = Path(places.aside(str(target)))
            target.rename(former)
            folder.rename(target)
            former.rename(folder)
    else:
        folder.rename(target)  # an empty folder may be there
    _sync_one(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders at once, where the system can (Linux, not on every file system)."""
    at_working_directory, exchange = -100, 2
    with suppress(AttributeError, OSError):
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        names = os.fsencode(one), os.fsencode(other)
        arguments = at_working_directory, names[0], at_working_directory, names[1], exchange
        return bool(rename(*arguments) == 0)
    return False


def _remove_unfinished(parent: Path) -> None:
    """Removes what processes of this machine left behind when they were killed."""
    for folder in parent.iterdir():
        match = re.fullmatch(rf"{re.escape(_UNFINISHED)}-(\d+)-\w+", folder.name)
        if match and folder not in _at_work:
            pid = int(match[1])
            if pid == os.getpid() or not _is_alive(pid):
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _sync(folder: Path) -> None:
    """Has all files and folders written to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync_one(Path(parent, name))
        _sync_one(Path(parent))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # not every file system syncs folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
