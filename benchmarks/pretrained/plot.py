"""Accuracy over rollouts, and over the seconds that they and their passes took."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.update_rules.analysis import select, smoothed
from benchmarks.update_rules.variants import Variant

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt


def plot(path: Path, rules: Mapping[str, Variant], table: Sequence[Mapping[str, Any]]) -> None:
    """Writes the figure: the mean over seeds, and each seed's own curve.

    Args:
        path: The file.
        rules: By name.
        table: The finished runs, a rate a rule.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True)
    for number, (name, rule) in enumerate(rules.items()):
        runs = select(table, variant=name)
        accuracy = np.array([smoothed(run["curve"]["accuracy"]) for run in runs])
        for axis, cost in zip(axes, ("rollouts", "wall_s"), strict=True):
            spent = np.array([run["curve"][cost] for run in runs])
            for one_spent, one_accuracy in zip(spent, accuracy, strict=True):
                axis.plot(one_spent, one_accuracy, color=f"C{number}", linewidth=0.6, alpha=0.5)
            label = f"{rule.label} (lr {runs[0]['run']['lr']:g})"
            axis.plot(spent.mean(0), accuracy.mean(0), color=f"C{number}", linewidth=2, label=label)
    axes[0].set(xlabel="rollouts", ylabel="sampled accuracy (T = 1), held-out")
    axes[1].set(xlabel="seconds of training")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
