"""What a person at the terminal sees of a run, and the files it leaves: CSV, TensorBoard."""

import csv
import json
import math
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tensorboardX import SummaryWriter

PROGRESS = "progress.csv"
HELD_OUT = "heldout_accuracy"
# Columns of the CSV file and where in RLlib's result they are.
COLUMNS = {
    "iteration": "training_iteration",
    "rollouts": "env_runners/num_rollouts_lifetime",
    "accuracy": "env_runners/accuracy",
    "reward": "env_runners/episode_return_mean",
    "entropy": "learners/default_policy/sfpo/entropy",
    "sfpo_active": "learners/default_policy/sfpo/active",
    "displacement_norm": "learners/default_policy/sfpo/displacement_norm",
    "tokens_per_s": "env_runners/tokens_per_s",
    "sample_s": "timers/sample",
    "learn_s": "timers/learn",
    "sync_weights_s": "timers/sync_weights",
    HELD_OUT: "evaluation/env_runners/accuracy",
    "completion_length_mean": "env_runners/completion_length_mean",
    "truncated_fraction": "env_runners/truncated_fraction",
    "num_groups_equal_reward": "env_runners/num_groups_equal_reward",
}
PASSES = "passes"  # over batches, of the update of the iteration: those that have a loss
OF_LAST_PASS = ("grad_norm", "clip_fraction")  # as the entropy is
FIELDS = (*COLUMNS, PASSES, *OF_LAST_PASS)
_PASS = "learners/default_policy/sfpo/pass_"
_LOSS_OF_A_PASS = re.compile(rf"{_PASS}(\d+)/loss")
# From which share on the line says that replies were cut, and that groups taught nothing.
MANY_CUT, MANY_EQUAL = 0.1, 0.5


def flatten(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a nested result as `("a/b", value)`."""
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        elif not isinstance(value, str | bool):
            try:
                yield f"{prefix}{name}", float(value)
            except (TypeError, ValueError):
                continue  # not a number: the config, a date


def iteration_line(result: Mapping[str, Any]) -> str:
    """One line about an iteration, and one each about what may be amiss and the evaluation."""
    values = dict(flatten(result))
    row = {name: float("nan") for name in COLUMNS} | {PASSES: 0.0} | row_of(values)
    seconds = sum(row[name] for name in ("sample_s", "learn_s", "sync_weights_s"))
    line = (
        f"iter {row['iteration']:4.0f}  accuracy {row['accuracy']:.3f}  "
        f"reward {row['reward']:.3f}  entropy {row['entropy']:.3f} "
        f"{row[PASSES]:2.0f} {'pass  ' if row[PASSES] == 1 else 'passes'} "
        f"{row['tokens_per_s']:5.0f} tok/s  "
        f"{seconds:4.1f} s"
    )
    if warnings := list(_warnings(values)):
        line += f"\n           {', '.join(warnings)}"
    if COLUMNS[HELD_OUT] in values:
        line += f"\n           held-out accuracy {row[HELD_OUT]:.3f}"
    return line


def _warnings(values: Mapping[str, float]) -> Iterator[str]:
    """What keeps a run from learning that its accuracy alone does not tell."""
    nan = float("nan")
    cut = values.get("env_runners/truncated_fraction", nan)
    if cut >= MANY_CUT:
        yield f"{cut:.0%} of replies cut"
    num_groups = values.get("env_runners/num_episodes", nan) / values.get("config/group_size", nan)
    equal = values.get("env_runners/num_groups_equal_reward", nan)
    if equal >= MANY_EQUAL * num_groups:
        yield f"{equal / num_groups:.0%} of groups with equal rewards"


class RunReport:
    """Writes progress.csv and TensorBoard events into a folder, an iteration once.

    A run that goes on from a checkpoint makes the iterations after it anew: their rows are cut away
    and their events hidden, as TensorBoard does it.

    Attributes:
        rows: What progress.csv holds, by its columns; what is not known is absent.
    """

    def __init__(self, folder: str | Path, *, after: int = 0) -> None:
        """Opens the files.

        Args:
            folder: Made if it does not exist.
            after: The iteration that the run goes on from.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / PROGRESS
        self.rows = [row for row in read_rows(self._path) if row["iteration"] <= after]
        self._write_rows()
        self._tensorboard = tensorboard_writer(folder, after + 1)

    def add(self, result: Mapping[str, Any]) -> None:
        """Adds the result of an iteration."""
        values = self._add_events(result, int(result["training_iteration"]))
        self.rows.append(row_of(values))
        self._csv.writerow(self.rows[-1])
        self._file.flush()

    def add_to_last(self, result: Mapping[str, Any]) -> None:
        """Adds what was measured after the result of the last iteration had come."""
        values = self._add_events(result, int(self.rows[-1]["iteration"]))
        self.rows[-1].update(row_of(values))
        self._file.close()
        self._write_rows()

    def _add_events(self, result: Mapping[str, Any], iteration: int) -> dict[str, float]:
        values = dict(flatten(result))
        for path, value in values.items():
            if math.isfinite(value) and not path.startswith("config/"):
                self._tensorboard.add_scalar(path, value, iteration)
        return values

    def _write_rows(self) -> None:
        """Puts a file with all rows in the place of the old one, and opens it for more."""
        with replacing(self._path, newline="") as file:
            writer = csv.DictWriter(file, fieldnames=FIELDS)
            writer.writeheader()
            writer.writerows(self.rows)
        self._file = open(self._path, "a", newline="")  # noqa: SIM115
        self._csv = csv.DictWriter(self._file, fieldnames=FIELDS)

    def sync(self) -> None:
        """Sees to it that all rows are on the disk."""
        os.fsync(self._file.fileno())
        self._tensorboard.flush()

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._tensorboard.close()


def row_of(values: Mapping[str, float]) -> dict[str, float]:
    """The columns of progress.csv, of an iteration's metrics by their paths."""
    row = {name: values[path] for name, path in COLUMNS.items() if path in values}
    passes = {m[1]: values[path] for path in values if (m := _LOSS_OF_A_PASS.fullmatch(path))}
    # Those of passes that were not made are NaN.
    made = [int(k) for k, loss in passes.items() if not math.isnan(loss)]
    if passes:
        row[PASSES] = float(len(made))
    of_last = {name: f"{_PASS}{max(made, default=0)}/{name}" for name in OF_LAST_PASS if made}
    return row | {name: values[path] for name, path in of_last.items() if path in values}


def tensorboard_writer(folder: Path, first_step: int) -> SummaryWriter:
    """Writes for TensorBoard, which no longer shows what an earlier writer said of these steps.

    Args:
        folder: Made if it does not exist.
        first_step: The first that is written.
    """
    # Files are named by the second: one that is begun in the same would take the other's place.
    suffix = f".{time.time_ns()}"
    return SummaryWriter(str(folder), purge_step=first_step, filename_suffix=suffix)


def finite(row: Mapping[str, float]) -> dict[str, float]:
    """A row without the values that JSON has no name for."""
    return {name: value for name, value in row.items() if math.isfinite(value)}


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a progress.csv, without one that a kill has cut; none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        lines = [line for line in file if line.endswith("\n")]
    return [
        {name: float(row[name]) for name in FIELDS if row.get(name)}
        for row in csv.DictReader(lines)
    ]


def highest(
    rows: Iterable[Mapping[str, float]], column: str, among: Collection[int] | None = None
) -> tuple[int, float] | None:
    """The iteration at which a column was highest, the newest of equal ones, and its value.

    Args:
        rows: Of a progress.csv.
        column: What is compared; rows in which it is no number do not count.
        among: Only these iterations; None: all.

    Returns:
        None if no row counts.
    """
    found = [
        (row[column], int(row["iteration"]))
        for row in rows
        if math.isfinite(row.get(column, math.nan)) and (among is None or row["iteration"] in among)
    ]
    value, iteration = max(found, default=(0.0, None))
    return None if iteration is None else (iteration, value)


@contextmanager
def replacing(path: Path, **how: Any) -> Iterator[IO[str]]:
    """A text file that takes the place of `path` whole, or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", **how) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, content: Any) -> None:
    """A JSON file that takes the place of `path` whole, or not at all."""
    with replacing(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")
