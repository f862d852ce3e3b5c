"""Comparisons as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfpo_rllib.comparison.curves import HELD_OUT, Curve

_COLORS = ("tab:blue", "tab:orange")
_GRID = 200  # places at which a mean over seeds is drawn


def plot_runs(
    sides: Sequence[Sequence[Curve]],
    names: Sequence[str],
    measure: str,
    target: float | None,
    path: Path,
) -> None:
    """Accuracy over rollouts: a thin line a run, a thick one the mean over seeds."""
    from matplotlib.figure import Figure  # not pyplot: a notebook's plots are left alone

    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    for curves, name, color in zip(sides, names, _COLORS, strict=True):
        points = [p for p in (curve.points(measure) for curve in curves) if p is not None]
        if len(points) > 1:
            for x, y in points:
                axes.plot(x, y, color=color, alpha=0.25, linewidth=1)
        ends = max(x[0] for x, _ in points), min(x[-1] for x, _ in points)
        grid = points[0][0] if len(points) == 1 else np.linspace(*ends, _GRID)
        mean = np.mean([np.interp(grid, x, y) for x, y in points], axis=0)
        label = name if len(points) == 1 else f"{name}, mean of {len(points)} seeds"
        axes.plot(grid, mean, color=color, label=label)
    if target is not None:
        axes.axhline(
            target, color="gray", linestyle="--", linewidth=1, label=f"target {target:.3f}"
        )
    what = "held-out accuracy" if measure == HELD_OUT else "accuracy of the batches"
    axes.set(xlabel="rollouts", ylabel=what)
    _finish(figure, axes, path)


def plot_evaluations(comparison: dict[str, Any], names: Sequence[str], path: Path) -> None:
    """The difference of each task with its interval, and the accuracy of both."""
    from matplotlib.figure import Figure

    rows = {
        **comparison["tasks"],
        **({"mean": comparison["mean"]} if len(comparison["tasks"]) > 1 else {}),
    }
    figure = Figure(figsize=(9, 1.6 + 0.45 * len(rows)))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))[::-1]
    for side, name, color in zip(("first", "second"), names, _COLORS, strict=True):
        left.plot([row[side] for row in rows.values()], places, "o", color=color, label=name)
    left.set(xlabel="accuracy", yticks=places, yticklabels=list(rows))
    values = np.array([row["difference"]["value"] for row in rows.values()])
    bounds = np.array([row["difference"]["interval"] for row in rows.values()])
    errors = np.abs(bounds.T - values)
    right.errorbar(values, places, xerr=errors, fmt="o", color="black", capsize=3)
    right.axvline(0, color="gray", linewidth=1)
    right.set(xlabel="difference, 95% interval")
    right.grid(alpha=0.3)
    _finish(figure, left, path)


def _finish(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
