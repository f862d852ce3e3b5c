"""Accuracy and stability over the age of the weights that sampled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt

LABELS = {
    "single": "GRPO",
    "multi_epoch": "GRPO, 8 epochs",
    "slow_fast": "SFPO",
    "slow_fast_ess": "SFPO, alpha sqrt(ESS)",
}


def plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the figure.

    Args:
        path: The file.
        rows: Of the results, a rule and an age each.
    """
    figure, (accuracy, final, drop) = plt.subplots(1, 3, figsize=(13, 4))
    ages = sorted({row["max_staleness"] for row in rows})
    for shift, rule in enumerate(LABELS):
        of_rule = [row for row in rows if row["rule"] == rule]
        x = [ages.index(row["max_staleness"]) + 0.06 * (shift - 1.5) for row in of_rule]
        for axis, name in ((accuracy, "best_accuracy"), (final, "final_accuracy")):
            value = [row[name]["value"] for row in of_rule]
            low, high = zip(*(row[name]["interval"] for row in of_rule), strict=True)
            axis.errorbar(
                x,
                value,
                yerr=[
                    [max(v - b, 0) for v, b in zip(value, low, strict=True)],
                    [max(b - v, 0) for v, b in zip(value, high, strict=True)],
                ],
                marker="o",
                capsize=3,
                label=LABELS[rule],
            )
        drop.plot(x, [row["worst_drop"] for row in of_rule], marker="o", label=LABELS[rule])
    accuracy.set_ylabel("best accuracy, held-out, T = 1")
    final.set_ylabel("accuracy at the end")
    drop.set_ylabel("worst fall below the best so far")
    for axis in (accuracy, final, drop):
        axis.set_xticks(range(len(ages)), [f"S = {age}" for age in ages])
        axis.set_xlabel("updates between sampling and learning")
        axis.grid(alpha=0.3)
    accuracy.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
