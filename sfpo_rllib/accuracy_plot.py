"""Plots of accuracy over rollouts: one run, or several against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WINDOW = 10  # batches of the running mean
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown")


@dataclass(frozen=True)
class Curve:
    """A run in a plot.

    Attributes:
        label: What it is.
        rows: Those of its progress.csv.
    """

    label: str
    rows: Sequence[Mapping[str, float]]

    def points(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Rollouts, and the column at them, where it is known."""
        known = [(row["rollouts"], row[column]) for row in self.rows if column in row]
        both = np.array(known, dtype=float).reshape(-1, 2)
        return both[:, 0], both[:, 1]


def running_mean(values: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """The mean of each value and those before it, `window` at most. Shape (N,) to (N,)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def half_interval(accuracy: np.ndarray, num_problems: int) -> np.ndarray:
    """Half of a 95% interval of an accuracy on so many problems, sampled several times or once.

    An upper bound: a problem's mean over its samples varies no more than one sample of it does.
    """
    return 1.96 * np.sqrt(accuracy * (1 - accuracy) / num_problems)


def plot_accuracy(
    curves: Sequence[Curve], path: Path, title: str, *, num_problems: int | None = None
) -> Path:
    """Plots the training batches' running mean, and the held-out accuracy with its interval.

    Held-out accuracies at the same rollouts stand a little beside each other.

    Args:
        curves: What is compared, the first one in front.
        path: Of the picture; its ending says the format.
        title: Above it.
        num_problems: Of the held-out ones; without it there are no error bars.

    Returns:
        The path.
    """
    from matplotlib.figure import Figure  # not pyplot: a notebook's plots are left alone

    figure = Figure(figsize=(8, 4.5))
    axes = figure.subplots()
    width = max(curve.points("rollouts")[0].max(initial=0) for curve in curves)
    for number, curve in enumerate(curves):
        colour, order = COLOURS[number % len(COLOURS)], len(curves) - number
        rollouts, accuracy = curve.points("accuracy")
        axes.plot(rollouts, running_mean(accuracy), color=colour, alpha=0.6, zorder=order)
        if number == 0:
            axes.plot(rollouts, accuracy, ".", color=colour, alpha=0.15, zorder=0)
        at, held_out = curve.points("heldout_accuracy")
        error = half_interval(held_out, num_problems) if num_problems else None
        last = f", {held_out[-1]:.3f} at the end" if len(held_out) else ""
        axes.errorbar(
            at + 0.008 * width * number,
            held_out,
            yerr=error,
            fmt="o",
            capsize=3,
            color=colour,
            label=curve.label + last,
            zorder=len(curves) + order,
        )
    bars = f"; bars: 95% over {num_problems} problems" if num_problems else ""
    axes.set(
        xlabel=f"rollouts  (circles: held-out problems{bars}; lines: mean of {WINDOW} batches)",
        ylabel="sampled accuracy (T = 1)",
        title=title,
    )
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=-0.01 * width)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return path
