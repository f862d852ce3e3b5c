"""Accuracy over rollouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.update_rules.variants import VARIANTS
from sfpo_rllib.statistics import smoothed

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt


def plot_curves(
    path: Path, panels: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> None:
    """Mean over seeds of the smoothed accuracy, with the range of the seeds.

    Args:
        path: The file to write.
        panels: By title, the runs of each variant.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 4.6), squeeze=False, sharey=False
    )
    shades = plt.get_cmap("tab20").colors  # strong and pale in turn
    colours = dict(zip(VARIANTS, [*shades[::2], *shades[1::2]], strict=False))
    for axis, (title, variants) in zip(axes[0], panels.items(), strict=True):
        for name, runs in variants.items():
            rollouts = np.array(runs[0]["curve"]["rollouts"])
            accuracy = np.array([smoothed(run["curve"]["accuracy"]) for run in runs])
            rate = runs[0]["run"]["lr"]
            axis.plot(
                rollouts,
                accuracy.mean(axis=0),
                color=colours[name],
                linewidth=2.2 if name in ("single", "slow_fast", "slow_fast_replay") else 1.2,
                label=f"{VARIANTS[name].label} (lr {rate:g})",
            )
            axis.fill_between(
                rollouts, accuracy.min(0), accuracy.max(0), color=colours[name], alpha=0.08, lw=0
            )
        axis.set(xlabel="rollouts", ylabel="sampled accuracy (T = 1), held-out", title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7.5)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
