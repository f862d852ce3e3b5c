"""The folder of a run: who writes there, which run it holds, its checkpoints."""

import json
import logging
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pyarrow.fs import LocalFileSystem
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.checkpoints import CheckpointError, newest_valid, read_config, verify
from sfpo_rllib.checkpoints.manifest import own_files
from sfpo_rllib.checkpoints.places import files_below
from sfpo_rllib.folder_lock import FolderInUse, FolderLock
from sfpo_rllib.recordings import RolloutStore
from sfpo_rllib.reporting import PROGRESS, highest, write_json
from sfpo_rllib.run_loop.identity import Identity

logger = logging.getLogger(__name__)

RECORD = "run.json"
SUMMARY = "summary.json"
LOCK = "run.lock"
PREFIX = "checkpoint_"


@dataclass
class Session:
    """One process's part of a run.

    Attributes:
        from_iteration: That it went on from; 0 if it began the run.
        to_iteration: That it saved last.
        seconds: From its start to its last save, or to its end.
        ended: How: "finished", the name of a signal, or "" if it was killed.
    """

    from_iteration: int
    to_iteration: int
    seconds: float = 0.0
    ended: str = ""


@dataclass
class Record:
    """What run.json says.

    Attributes:
        identity: What the run trains.
        checkpoints: Names of those that the run has written, or is writing, and not deleted.
        sessions: One a process.
        id: By which trackers know the run.
        finished: The iterations of the run, once it is at its end.
    """

    identity: Identity
    checkpoints: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    finished: int | None = None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Self:
        """The record from its JSON.

        Raises:
            Exception: If it is none.
        """
        return cls(
            identity=Identity(**content.pop("identity")),
            sessions=[Session(**session) for session in content.pop("sessions")],
            **content,
        )


def numbered(folder: Path) -> list[Path]:
    """What is called `checkpoint_N` in a folder, in order."""
    found = (path for path in folder.glob(f"{PREFIX}*") if iteration_of(path) >= 0)
    return sorted(found, key=iteration_of)


def iteration_of(checkpoint: Path) -> int:
    """The number in its name, of `run()`'s the iteration; -1 of another name."""
    match = re.fullmatch(rf"{PREFIX}(\d+)", checkpoint.name)
    return int(match[1]) if match else -1


def holds_run(folder: Path) -> bool:
    """Whether a run, or what is left of one, lies there, whatever else does."""
    return (folder / RECORD).is_file() or bool(numbered(folder))


class RunFolder:
    """A folder that holds one run, for one process at a time.

    It deletes checkpoints that its record names, and nothing else.

    Attributes:
        path: Absolute.
        record: What run.json says.
        checkpoint: The newest one that is whole; None at the beginning of a run.
    """

    def __init__(
        self,
        folder: str | Path,
        config: AlgorithmConfig,
        *,
        keep: int,
        keep_best: str | None = None,
        may_differ: Collection[str] = (),
    ) -> None:
        """Looks at the folder, and locks it; it is made if it does not exist.

        Args:
            folder: A local path.
            config: Of the run, validated.
            keep: Number of the newest checkpoints to keep.
            keep_best: A column of progress.csv: the checkpoint at whose iteration it was highest
                is kept too. None: only the newest are.
            may_differ: Settings that may differ from those of the run in the folder.

        Raises:
            ValueError: If the folder holds another run, or files that this one would overwrite.
            CheckpointError: If it holds checkpoints, and none of them is whole.
        """
        self.path = Path(folder).expanduser().resolve()
        self._keep, self._keep_best = keep, keep_best
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"folder={str(folder)!r}: must be a folder, not a file")
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = FolderLock(self.path / LOCK)
        except FolderInUse:
            raise self._refusal("one that no other process trains in") from None
        try:
            identity = Identity.of(config)
            self.record = self._read_record() or Record(identity)
            self.checkpoint = self._newest_checkpoint()
            differing = list(
                identity.differences(self._identity_so_far(), type(config)(), may_differ)
            )
            if differing and self.checkpoint is not None:
                raise self._refusal(
                    "another one: it holds a run of other settings", "\n".join([":", *differing])
                )
            if differing:  # from a run that saved nothing: there is nothing to go on from
                self.record = Record(identity)
                (self.path / PROGRESS).unlink(missing_ok=True)
                RolloutStore(self.path).cut(-1)
            self.record.identity = identity
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def save(self, algo: Algorithm, rows: Iterable[Mapping[str, float]] = ()) -> Path:
        """Saves a checkpoint and deletes those of the run that are one too many.

        Args:
            algo: What is saved.
            rows: Of progress.csv, by which the best one is known.
        """
        name = f"{PREFIX}{algo.iteration:06d}"
        target = self.path / name
        record = self.record
        if target.exists() and name not in record.checkpoints:
            raise FileExistsError(f"{target}: was not written by this run; move it away")
        # Noted before it is there: what a kill leaves of it is the run's as well.
        record.checkpoints = [*(other for other in record.checkpoints if other != name), name]
        self.write_record()
        algo.save_to_path(str(target))
        stay = {*record.checkpoints[-self._keep :], *self._best(rows)}
        for old in record.checkpoints:
            if old not in stay:
                self._delete(self.path / old)
        record.checkpoints = [each for each in record.checkpoints if each in stay]
        self.checkpoint = target
        return target

    def _best(self, rows: Iterable[Mapping[str, float]]) -> list[str]:
        """The name of the checkpoint that is spared, if one is."""
        if self._keep_best is None:
            return []
        # A kill may have left the names of some that are gone.
        names = [name for name in self.record.checkpoints if (self.path / name).is_dir()]
        there = {iteration_of(Path(name)): name for name in names}
        best = highest(rows, self._keep_best, among=there)
        return [] if best is None else [there[best[0]]]

    def write_record(self) -> None:
        """Writes run.json."""
        write_json(self.path / RECORD, asdict(self.record))

    def _read_record(self) -> Record | None:
        if (self.path / RECORD).exists():
            try:
                return Record.of(json.loads((self.path / RECORD).read_text()))
            except Exception as error:
                raise self._refusal(
                    "a new one or one of run()", f": its {RECORD} is not ({error!r})"
                ) from error
        for name in (PROGRESS, SUMMARY):
            if (self.path / name).exists():
                raise self._refusal(
                    "a new one or one of run()", f": it has a {name} and no {RECORD}"
                )
        return None

    def _identity_so_far(self) -> Identity:
        """Of the newest checkpoint, which need not be of `run()`'s making."""
        if self.checkpoint is None or self.checkpoint.name in self.record.checkpoints:
            return self.record.identity
        return Identity.of(read_config(self.checkpoint))

    def _newest_checkpoint(self) -> Path | None:
        found = newest_valid(self.path)
        if found is None and (damaged := numbered(self.path)):
            try:
                verify(damaged[-1])
            except CheckpointError as error:
                raise CheckpointError(
                    f"folder={str(self.path)!r}: must hold a whole checkpoint, or none: move those "
                    f"in it away to begin anew. {error}"
                ) from error
        return found

    def _delete(self, checkpoint: Path) -> None:
        """Deletes a checkpoint, unless somebody has put something into it."""
        half_deleted = checkpoint.with_name(f".{checkpoint.name}.deleted")
        if checkpoint.is_dir() and not checkpoint.is_symlink():
            there = files_below(LocalFileSystem(), str(checkpoint)).keys()
            if foreign := there - own_files(checkpoint):
                logger.warning("%s stays: %s is not of this run", checkpoint, min(foreign))
                return
            checkpoint.rename(half_deleted)
        shutil.rmtree(half_deleted, ignore_errors=True)

    def _refusal(self, what: str, why: str = "") -> ValueError:
        return ValueError(f"folder={str(self.path)!r}: must be {what}{why}")
