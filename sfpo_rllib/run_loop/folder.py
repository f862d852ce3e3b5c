"""The folder of a run: who writes there, which run it holds, its checkpoints."""

import fcntl
import json
import logging
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.checkpoints import CheckpointError, newest_valid, verify
from sfpo_rllib.reporting import PROGRESS, replacing
from sfpo_rllib.run_loop.identity import differences, fingerprint_of, settings_of

logger = logging.getLogger(__name__)

RECORD = "run.json"
SUMMARY = "summary.json"
LOCK = "run.lock"
PREFIX = "checkpoint_"


@dataclass
class Session:
    """One process's part of a run.

    Attributes:
        from_iteration: That it went on from; 0 if it began anew.
        to_iteration: That it saved last.
        seconds: From its start to its last save or its end.
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
        algorithm: Its class.
        settings: Those that are not their defaults.
        model: Digest of the model's folder; None for one of a hub.
        checkpoints: Names of those that the run has written, or is writing, and not deleted.
        sessions: One a process.
        finished: The iterations of the run, once it is at its end.
    """

    algorithm: str
    settings: dict[str, Any]
    model: str | None
    checkpoints: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    finished: int | None = None


class RunFolder:
    """A folder that holds one run, for one process at a time.

    It deletes checkpoints that its record names, and nothing else.

    Attributes:
        path: Absolute.
        checkpoint: The newest one that is whole; None at the beginning of a run.
        record: What run.json says.
    """

    def __init__(
        self,
        folder: str | Path,
        config: AlgorithmConfig,
        *,
        keep: int,
        may_differ: Collection[str] = (),
    ) -> None:
        """Looks at the folder, and locks it; it is made if it does not exist.

        Args:
            folder: A local path.
            config: Of the run, validated.
            keep: Number of checkpoints to keep.
            may_differ: Settings that may differ from those of the run in the folder.

        Raises:
            ValueError: If the folder holds another run, or files that this one would overwrite.
            CheckpointError: If it holds checkpoints, and none of them is whole.
        """
        self.path = Path(folder).resolve()
        self._keep = keep
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"folder={str(folder)!r}: must be a folder, not a file")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path / LOCK, "a")  # noqa: SIM115  (ends with this process)
        try:
            self._take_lock()
            self.record = self._read(config, may_differ)
            self.checkpoint = self._find_checkpoint()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.close()

    def save(self, algo: Algorithm) -> Path:
        """Saves a checkpoint and deletes those of the run that are one too many."""
        name = f"{PREFIX}{algo.iteration:06d}"
        target = self.path / name
        if target.exists() and name not in self.record.checkpoints:
            raise FileExistsError(f"{target} was not written by this run: move it away")
        # Known before it is there: what a kill leaves of it is the run's as well.
        self.record.checkpoints = [*(n for n in self.record.checkpoints if n != name), name]
        self.write_record()
        algo.save_to_path(str(target))
        for old in self.record.checkpoints[: -self._keep]:
            if not (self.path / old).is_symlink():
                shutil.rmtree(self.path / old, ignore_errors=True)
        self.record.checkpoints = self.record.checkpoints[-self._keep :]
        self.checkpoint = target
        return target

    def write_record(self) -> None:
        """Writes run.json."""
        with replacing(self.path / RECORD) as file:
            json.dump(asdict(self.record), file, indent=2)
            file.write("\n")

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"folder={str(self.path)!r}: must be one that no other process is training in"
            ) from None

    def _read(self, config: AlgorithmConfig, may_differ: Collection[str]) -> Record:
        settings = settings_of(config)
        now = Record(
            algorithm=config.algo_class.__name__,
            settings=settings,
            model=fingerprint_of(config.model_config["model"]),
        )
        if not (self.path / RECORD).exists():
            for name in (PROGRESS, SUMMARY):
                if (self.path / name).exists():
                    raise ValueError(
                        f"folder={str(self.path)!r}: must be a new folder or one of run(); this "
                        f"one has a {name} and no {RECORD}"
                    )
            return now
        before = self._read_record()
        differing = list(self._differing(now, before, type(config)(), may_differ))
        if differing:
            raise ValueError(
                f"folder={str(self.path)!r}: must be another one, as it holds a run of other "
                "settings (or name them in may_differ):\n" + "\n".join(differing)
            )
        before.settings, before.model = settings, now.model
        return before

    def _read_record(self) -> Record:
        try:
            content = json.loads((self.path / RECORD).read_text())
            sessions = [Session(**session) for session in content.pop("sessions")]
            return Record(**content, sessions=sessions)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"folder={str(self.path)!r}: must be a new folder or one of run(); its {RECORD} "
                f"is none of run()'s ({error!r})"
            ) from error

    @staticmethod
    def _differing(
        now: Record, before: Record, defaults: AlgorithmConfig, may_differ: Collection[str]
    ) -> Iterator[str]:
        if now.algorithm != before.algorithm:
            yield f"algorithm={now.algorithm!r}: must be {before.algorithm!r}"
        ignored = {*may_differ}
        if now.model is not None and now.model == before.model:
            ignored.add("model_config.model")  # it may have been moved
        yield from differences(now.settings, before.settings, defaults, ignored)
        if now.model != before.model and "model_config.model" not in ignored:
            yield "model_config.model: the files in this folder are not those of the run"

    def _find_checkpoint(self) -> Path | None:
        found = newest_valid(self.path)
        damaged: dict[str, CheckpointError] = {}
        for path in sorted(self.path.glob(f"{PREFIX}[0-9]*")):
            if found is None or path.name > found.name:
                try:
                    verify(path)
                except CheckpointError as error:
                    damaged[path.name] = error
        if found is None and damaged:
            raise CheckpointError(
                f"folder={str(self.path)!r}: must hold a whole checkpoint, or none; move "
                f"{', '.join(damaged)} away to begin anew. {list(damaged.values())[-1]}"
            )
        for name, error in damaged.items():
            if name not in self.record.checkpoints:
                raise CheckpointError(f"{self.path / name} is damaged, and no file of this run")
            logger.warning("%s is passed over: %s", name, error)
        return found
