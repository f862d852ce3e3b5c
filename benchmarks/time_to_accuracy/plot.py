"""Accuracy over the seconds that training took, and over rollouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.time_to_accuracy.rules import OVERLAPPED, at, is_plain
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
    """Writes the overlapped runs: the mean over seeds, and each seed's own curve.

    Args:
        path: The file.
        rules: By name.
        rates: Each rule's own.
        table: The finished runs.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.4), sharey=True, layout="constrained")
    for number, (name, rule) in enumerate(rules.items()):
        runs = select(table, variant=at(name, OVERLAPPED), lr=rates[name])
        accuracy = np.array([smoothed(run["curve"]["accuracy"]) for run in runs])
        style = "--" if is_plain(rule) else "-"
        for axis, cost in zip(axes, ("wall_s", "rollouts"), strict=True):
            spent = np.array([run["curve"][cost] for run in runs])
            for one_spent, one_accuracy in zip(spent, accuracy, strict=True):
                axis.plot(
                    one_spent, one_accuracy, style, color=f"C{number}", linewidth=0.5, alpha=0.4
                )
            axis.plot(
                spent.mean(axis=0),
                accuracy.mean(axis=0),
                style,
                color=f"C{number}",
                linewidth=2,
                label=f"{rule.label} (lr {rates[name]:g})",
            )
    axes[0].set(xlabel="seconds of training", ylabel="sampled accuracy (T = 1), held-out")
    axes[1].set(xlabel="rollouts")
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=130)
    plt.close(figure)
