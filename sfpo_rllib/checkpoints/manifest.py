"""The manifest of a checkpoint: what files it has, their sizes and their SHA-256.

It is written last. RLlib's metadata, written first, says that there will be one: of a checkpoint
that was cut off nothing else is needed to tell it from one of before there were manifests.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem, FileType, LocalFileSystem

from sfpo_rllib.checkpoints import places

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
METADATA = "rllib_checkpoint.json"  # RLlib's, of an algorithm
_ANNOUNCED = "manifest"  # the metadata's key
_VERSION = 1

# What an algorithm's checkpoint had before there were manifests.
_OLD_FILES = (
    "class_and_ctor_args.pkl",
    "algorithm_state.pkl",
    "learner_group/learner/state.pkl",
    "learner_group/learner/rl_module/default_policy/module_state.pkl",
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be saved or loaded, and why, in one sentence that names the file."""


def announcement() -> dict[str, Any]:
    """What the metadata says of the manifest."""
    return {_ANNOUNCED: MANIFEST}


def write_manifest(folder: Path) -> None:
    """Writes the manifest of a folder that is otherwise complete."""
    local = LocalFileSystem()
    files = {
        name: {"size": size, "sha256": _sha256(local, str(folder / name))}
        for name, size in places.files_below(local, str(folder)).items()
        if name != MANIFEST
    }
    text = json.dumps({"version": _VERSION, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n")


def own_files(folder: Path) -> set[str]:
    """Paths in a checkpoint of the files that belong to it, without manifest by their names."""
    local = LocalFileSystem()
    sizes = places.files_below(local, str(folder))
    if MANIFEST in sizes:
        with suppress(CheckpointError):  # a damaged one
            return {MANIFEST, *_entries(local, str(folder))}
    return {
        name
        for name in sizes
        if Path(name).name in (MANIFEST, METADATA, "metadata.json") or name.endswith(".pkl")
    }


def verify(path: places.PathLike, filesystem: Any = None) -> None:
    """Reads a checkpoint through and compares it with its manifest.

    One without, of before there were any, is looked at for missing files only, with a warning.

    Args:
        path: The checkpoint of an algorithm; see `places.resolve`.
        filesystem: pyarrow's or fsspec's, that `path` is in.

    Raises:
        CheckpointError: If it is not what was saved.
    """
    filesystem, folder = places.resolve(path, filesystem)
    places.recover(filesystem, folder)
    kind = places.file_type(filesystem, folder)
    if kind != FileType.Directory:
        there = "does not exist" if kind == FileType.NotFound else "is a file"
        raise CheckpointError(f"{folder}: must be the folder of a checkpoint; it {there}")
    names = places.names_in(filesystem, folder)
    if MANIFEST in names:
        verify_part(filesystem, folder)
    elif METADATA not in names:
        raise CheckpointError(_damage(folder, METADATA))
    elif _ANNOUNCED in _read_json(filesystem, folder, METADATA):
        raise CheckpointError(
            f"{folder}/{MANIFEST}: is missing; the checkpoint was not saved to its end; load "
            "another one"
        )
    else:
        sizes = places.files_below(filesystem, folder)
        for name in _OLD_FILES:
            if not sizes.get(name):
                raise CheckpointError(_damage(folder, name, "is empty" if name in sizes else None))
        logger.warning(
            "%s has no %s: it is older than the check of its files, and is taken as it is.",
            folder,
            MANIFEST,
        )


def verify_part(filesystem: FileSystem, folder: str, part: str = "") -> None:
    """Compares files of a checkpoint with its manifest.

    Args:
        filesystem: Where it is.
        folder: The checkpoint.
        part: The folder in it whose files are compared. Empty: all.

    Raises:
        CheckpointError: If it is not what was saved.
    """
    sizes = places.files_below(filesystem, folder)
    for name, entry in _entries(filesystem, folder).items():
        if part and not name.startswith(f"{part}/"):
            continue
        if name not in sizes:
            raise CheckpointError(_damage(folder, name))
        if sizes[name] != entry["size"]:
            what = f"has {sizes[name]} bytes instead of {entry['size']}"
            raise CheckpointError(_damage(folder, name, what))
        if _sha256(filesystem, f"{folder}/{name}") != entry["sha256"]:
            what = f"does not have the SHA-256 that {MANIFEST} says"
            raise CheckpointError(_damage(folder, name, what))


def newest_valid(folder: str | Path) -> Path | None:
    """The newest checkpoint of a run that verifies.

    What is skipped on the way is logged, with the reason.

    Args:
        folder: Holds folders `checkpoint_N`.

    Returns:
        The one of the highest N, or None if there is none.
    """
    return next(all_valid(folder), None)


def all_valid(folder: str | Path) -> Iterator[Path]:
    """The checkpoints of a run that verify, from the newest on; see `newest_valid`."""
    found = places.names_in(*places.resolve(folder))
    # The one that was about to be replaced is there too; see places.recover.
    names = {re.sub(r"^\.(checkpoint_\d+)\.former$", r"\1", name) for name in found}
    numbers = {name: int(name[11:]) for name in names if re.fullmatch(r"checkpoint_\d+", name)}
    for name in sorted(numbers, key=lambda name: numbers[name], reverse=True):
        path = Path(folder, name)
        try:
            verify(path)
        except (CheckpointError, OSError) as error:
            logger.warning("Skipped a checkpoint: %s", error)
        else:
            yield path


def _entries(filesystem: FileSystem, folder: str) -> dict[str, dict[str, Any]]:
    """The manifest's entries, by file."""
    manifest = _read_json(filesystem, folder, MANIFEST)
    if manifest.get("version") != _VERSION:
        what = f"is of version {manifest.get('version')!r}; this release reads {_VERSION}"
        raise CheckpointError(_damage(folder, MANIFEST, what))
    files = manifest.get("files")
    entries = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(entry, dict) and entry.keys() == {"size", "sha256"} for entry in entries):
        raise CheckpointError(_damage(folder, MANIFEST, "is no list of files"))
    assert isinstance(files, dict)
    if METADATA not in files:
        raise CheckpointError(_damage(folder, MANIFEST, f"does not list {METADATA}"))
    return files


def _read_json(filesystem: FileSystem, folder: str, name: str) -> dict[str, Any]:
    with filesystem.open_input_file(f"{folder}/{name}") as file:
        content = file.read()
    try:
        value = json.loads(content)
    except ValueError as error:  # neither JSON nor text
        raise CheckpointError(_damage(folder, name, f"cannot be read ({error})")) from error
    if not isinstance(value, dict):
        raise CheckpointError(_damage(folder, name, "is no JSON object"))
    return value


def _damage(folder: str, name: str, what: str | None = None) -> str:
    return f"{folder}/{name}: {what or 'is missing'}; the checkpoint is damaged, load another one"


def _sha256(filesystem: FileSystem, path: str) -> str:
    with filesystem.open_input_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
