"""Return over environment steps: median and interquartile band of each variant."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt

from benchmarks.rllib_algorithms.runs import Settings
from benchmarks.rllib_algorithms.summary import Curves, at_rate

LABELS = {
    "ppo": "PPO",
    "ppo_more_epochs": "PPO, as many gradient steps as SFPO",
    "sfpo": "PPO with SFPO's update",
}


def plot(
    path: Path,
    curves: Curves,
    rates: Mapping[str, Mapping[str, float]],
    settings: Settings,
    target: float,
) -> None:
    """Draws one panel for each choice of learning rates.

    Args:
        path: Of the image.
        curves: Of all runs.
        rates: By title of the panel, the rate of each variant.
        settings: Of the runs.
        target: Return that is marked.
    """
    figure, axes = plt.subplots(
        1, len(rates), figsize=(5.5 * len(rates), 4), sharey=True, squeeze=False
    )
    # Batches end a few steps apart: all curves are read off at the same places.
    steps = settings.batch_size * np.arange(1, settings.iterations + 1)
    for panel, (title, lrs) in zip(axes[0], rates.items(), strict=True):
        for variant, lr in lrs.items():
            returns = [
                np.interp(steps, curve["env_steps"], curve["episode_return"])
                for curve in at_rate(curves, variant, lr).values()
            ]
            low, middle, high = np.percentile(returns, [25, 50, 75], axis=0)
            (line,) = panel.plot(steps, middle, label=f"{LABELS[variant]}, lr {lr:g}")
            panel.fill_between(steps, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        panel.axhline(target, color="grey", linewidth=0.8, linestyle="--")
        panel.set(xlabel="environment steps", title=title)
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small", loc="lower right")
    axes[0][0].set(ylabel=f"return, mean of {settings.smoothing_episodes} episodes", ylim=(0, None))
    figure.suptitle(f"{settings.env}: median and interquartile band over seeds")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
