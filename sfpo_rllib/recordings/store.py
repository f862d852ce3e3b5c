"""Recorded rollouts on the disk: a Parquet file an iteration, the oldest of which go."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = "rollouts"
TRAINING, EVALUATION = "training", "evaluation"
_NAME = re.compile(rf"({TRAINING}|{EVALUATION})_(\d{{6,}})\.parquet")
_ABOUT = b"sfpo_rllib"

_MESSAGE = {
    "role": pa.string(),
    "content": pa.string(),
    "turn": pa.int32(),
    "start": pa.int32(),
    "end": pa.int32(),
}
SCHEMA = pa.schema(
    {
        "iteration": pa.int32(),
        "stage": pa.string(),
        "seed": pa.int64(),
        "member": pa.int32(),
        "reward": pa.float64(),
        "rewards": pa.list_(pa.float64()),
        "is_success": pa.float64(),
        "verdict": pa.string(),
        "advantage": pa.float32(),
        "truncated": pa.bool_(),
        "weights_versions": pa.list_(pa.int32()),
        "weights_version_starts": pa.list_(pa.int32()),
        "messages": pa.list_(pa.struct(_MESSAGE)),
        "token_ids": pa.list_(pa.int32()),
        "tokens": pa.list_(pa.string()),
        "sampled": pa.list_(pa.bool_()),
        "logprobs": pa.list_(pa.float32()),
        "old_logps": pa.list_(pa.float32()),
        "entropies": pa.list_(pa.float32()),
        "metrics": pa.map_(pa.string(), pa.float64()),
        "info": pa.string(),
    }
)


@dataclass(frozen=True)
class Part:
    """One file: what was recorded of an iteration, in training or in evaluation.

    Attributes:
        path: Its place.
        stage: `TRAINING` or `EVALUATION`.
        iteration: That its rollouts were sampled in.
    """

    path: Path
    stage: str
    iteration: int

    def rows(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Its episodes, group by group.

        Args:
            columns: Those of `SCHEMA` that are read. None: all.

        Raises:
            ValueError: If it is not a whole file of recorded rollouts.
        """
        try:
            table = pq.read_table(self.path, columns=None if columns is None else list(columns))
        except pa.ArrowException as error:
            raise self._damaged(error) from error
        return table.to_pylist()

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(f"{self.path}: must be a whole file of recorded rollouts ({error})")

    @property
    def num_tokens(self) -> int:
        """How many tokens its episodes have, prompts included."""
        metadata = self._metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        columns = [group.column(i) for group in groups for i in range(metadata.num_columns)]
        return sum(c.num_values for c in columns if c.path_in_schema.startswith("token_ids."))

    @property
    def num_episodes(self) -> int:
        """How many episodes it has."""
        return self._metadata.num_rows

    @cached_property
    def _metadata(self) -> pq.FileMetaData:
        try:
            return pq.read_metadata(self.path)
        except pa.ArrowException as error:
            raise self._damaged(error) from error

    @cached_property
    def about(self) -> dict[str, Any]:
        """What of the run its reader needs: algorithm, model, env and its config."""
        metadata = self._metadata.metadata or {}
        about: dict[str, Any] = json.loads(metadata.get(_ABOUT, b"{}"))
        return about


class RolloutStore:
    """The files of one run, each iteration once.

    What an iteration writes takes the place of what it, or a later one, wrote before: a run that
    goes on from a checkpoint makes them anew. Files that are none of its own are left alone.
    """

    def __init__(self, run: Path, *, max_bytes: float = float("inf")) -> None:
        """Looks at nothing yet, and makes no folder.

        Args:
            run: The folder of the run.
            max_bytes: When its files are larger together, those of the oldest iterations go; the
                newest stays in any case.
        """
        self.folder = run / FOLDER
        self._max_bytes = max_bytes

    def write(
        self,
        stage: str,
        iteration: int,
        rows: Sequence[Mapping[str, Any]],
        about: Mapping[str, Any],
    ) -> Path:
        """Writes a file, whole or not at all.

        Args:
            stage: `TRAINING`, or `EVALUATION`, which follows the training of its iteration.
            iteration: That the rows are of.
            rows: Episodes by the columns of `SCHEMA`, without these two.
            about: Of the run; plain data, or else its repr is kept.

        Raises:
            OSError: If it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cut(iteration - 1 if stage == TRAINING else iteration)
        whole = [{"stage": stage, "iteration": iteration, **row} for row in rows]
        metadata = {_ABOUT: json.dumps(dict(about), default=repr).encode()}
        table = pa.Table.from_pylist(whole, schema=SCHEMA.with_metadata(metadata))
        path = self.folder / f"{stage}_{iteration:06d}.parquet"
        partial = path.with_name(f".{path.name}.partial")
        try:
            pq.write_table(table, partial, compression="zstd")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._rotate(path)
        return path

    def cut(self, after: int) -> None:
        """Deletes what is of later iterations."""
        for part in self.parts():
            if part.iteration > after:
                part.path.unlink()

    def parts(self) -> list[Part]:
        """The files, in the order of iterations, training before evaluation."""
        if not self.folder.is_dir():
            return []
        found = []
        for entry in os.scandir(self.folder):
            if match := _NAME.fullmatch(entry.name):
                found.append(Part(Path(entry.path), match[1], int(match[2])))
        return sorted(found, key=lambda part: (part.iteration, part.stage != TRAINING))

    def _rotate(self, newest: Path) -> None:
        sizes = {part.path: part.path.stat().st_size for part in self.parts()}
        total = sum(sizes.values())
        for path, size in sizes.items():
            if total <= self._max_bytes or path == newest:
                break
            path.unlink()
            total -= size


def find_parts(run: str | Path) -> list[Part]:
    """The files of a run.

    Args:
        run: The folder of a run or of a trial of Tune's, or the folder of files in it.

    Raises:
        ValueError: If there are none.
    """
    run = Path(run)
    parts = RolloutStore(run).parts()
    if not parts and run.name == FOLDER:
        parts = RolloutStore(run.parent).parts()
    if not parts:
        raise ValueError(
            f"run={str(run)!r}: must be a folder with recorded rollouts in "
            f"{FOLDER}/*.parquet, which config.reporting(record_rollouts=n) writes"
        )
    return parts


def read_rollouts(
    run: str | Path, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Recorded episodes, in the order of iterations.

    Args:
        run: See `find_parts`.
        columns: Those of `SCHEMA` that are read. None: all.

    Yields:
        An episode by its columns.

    Raises:
        ValueError: If there are none.
    """
    for part in find_parts(run):
        yield from part.rows(columns)
