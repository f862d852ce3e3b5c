"""The accuracy of a run over what it spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfpo_rllib.evals.runs import TUNE_RESULTS, notes_of, progress
from sfpo_rllib.reporting import PASSES, PROGRESS
from sfpo_rllib.statistics import smoothed

COSTS = ("rollouts", "seconds", PASSES)
HELD_OUT, BATCHES = "held-out", "batches"
# The column of each, and over how many neighbours means are taken: a batch is a small sample.
_MEASURES = {HELD_OUT: ("heldout_accuracy", 3), BATCHES: ("accuracy", 9)}
_LEAST = 3  # windows in a curve that is smoothed
_SPENT = ("sample_s", "learn_s", "sync_weights_s")


@dataclass(frozen=True)
class Curve:
    """One run.

    Attributes:
        name: Of its folder.
        seed: Of its config, None if it had none.
        rows: As `evals.runs.progress` has them, with what was spent until each under `COSTS`.
    """

    name: str
    seed: int | None
    rows: list[dict[str, float]]

    def has(self, measure: str) -> bool:
        """Whether it was measured at least twice."""
        return len(self._measured(measure)) > 1

    def points(self, measure: str, cost: str = "rollouts") -> tuple[np.ndarray, np.ndarray] | None:
        """What was spent, and the smoothed accuracy at it; None if that cost is not known."""
        column, window = _MEASURES[measure]
        rows = self._measured(measure)
        if not all(cost in row for row in rows):
            return None
        if len(rows) < _LEAST * window:  # it would hide most of what there is
            window = 1
        accuracy = smoothed([row[column] for row in rows], window)
        return np.array([row[cost] for row in rows]), accuracy

    def _measured(self, measure: str) -> list[dict[str, float]]:
        return [row for row in self.rows if _MEASURES[measure][0] in row]


def is_run(folder: Path) -> bool:
    """Whether it is the folder of a run of `run()`, or of a trial of Tune's."""
    return (folder / PROGRESS).is_file() or (folder / TUNE_RESULTS).is_file()


def read_curve(folder: Path) -> Curve:
    """The curve of a run.

    Raises:
        ValueError: If there is none yet.
    """
    rows = _with_costs(progress(folder))
    notes = notes_of(folder)
    seed: Any = None if notes is None else notes.settings.get("seed")
    curve = Curve(folder.name, seed if isinstance(seed, int) else None, rows)
    if not (curve.has(HELD_OUT) or curve.has(BATCHES)):
        raise ValueError(f"{folder}: this run has measured no accuracy twice yet")
    return curve


def _with_costs(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """The rows with what was spent until each; of what some iteration does not say, nothing."""
    result, spent = [], {"seconds": 0.0, PASSES: 0.0}
    known = {"seconds": True, PASSES: True}
    for row in rows:
        if row.get("iteration") != 0:  # an evaluation before the first one
            known["seconds"] &= all(name in row for name in _SPENT)
            known[PASSES] &= PASSES in row
            spent["seconds"] += sum(row.get(name, 0.0) for name in _SPENT)
            spent[PASSES] += row.get(PASSES, 0.0)
        others = {name: value for name, value in row.items() if name != PASSES}
        result.append({**others, **{name: spent[name] for name in spent if known[name]}})
    return result
