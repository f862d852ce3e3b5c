"""Accuracy over the seconds that training took."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.time_to_accuracy.rules import STALENESS, at
from benchmarks.update_rules.analysis import select, smoothed
from benchmarks.update_rules.variants import Variant

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt


def plot(
    path: Path,
    rules: Mapping[str, Variant],
    rates: Mapping[str, float],
    table: Sequence[Mapping[str, Any]],
) -> None:
    """Writes a panel a staleness: the mean over seeds, and each seed's own curve.

    Args:
        path: The file.
        rules: By name.
        rates: Each rule's own.
        table: The finished runs.
    """
    figure, axes = plt.subplots(1, len(STALENESS), figsize=(11, 4.4), sharey=True, sharex=True)
    for axis, s in zip(axes, STALENESS, strict=True):
        for number, (name, rule) in enumerate(rules.items()):
            runs = select(table, variant=at(name, s), lr=rates[name])
            seconds = np.array([run["curve"]["wall_s"] for run in runs])
            accuracy = np.array([smoothed(run["curve"]["accuracy"]) for run in runs])
            for one_seconds, one_accuracy in zip(seconds, accuracy, strict=True):
                axis.plot(one_seconds, one_accuracy, color=f"C{number}", linewidth=0.6, alpha=0.5)
            axis.plot(
                seconds.mean(axis=0),
                accuracy.mean(axis=0),
                color=f"C{number}",
                linewidth=2,
                label=f"{rule.label} (lr {rates[name]:g})",
            )
        axis.set(xlabel="seconds of training", title=f"max_staleness = {s}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("sampled accuracy (T = 1), held-out")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
