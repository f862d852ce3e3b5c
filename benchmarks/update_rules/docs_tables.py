"""Tables of the comparisons with the strongest GRPO, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any


def baselines(results: Mapping[str, Any]) -> Iterator[str]:
    """GRPO by epochs and mini-batches, each at the rate of its highest accuracy."""
    rows: dict[str, Mapping[str, Any]] = {}
    for row in results["rows"]:
        best = rows.get(row["name"])
        if best is None or row["mean_best_accuracy"] > best["mean_best_accuracy"]:
            rows[row["name"]] = row
    one_step = rows["grpo-1x1"]
    yield "| epochs x mini-batches | passes | learning rate | best accuracy | fewer rollouts |"
    yield "|---|---|---|---|---|"
    for name, row in sorted(rows.items(), key=lambda item: (item[1]["passes"], len(item[0]))):
        fewer = one_step["mean_rollouts_to_target"] / row["mean_rollouts_to_target"]
        reached = row["num_reached_target"] == row["num_seeds"] or row is one_step
        cells = [
            name.removeprefix("grpo-").replace("x", " x "),
            f"{row['passes']:g}",
            f"{row['lr']:g}",
            f"{row['mean_best_accuracy']:.3f}",
            f"{fewer:.2f}x" if reached else "not there",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    seeds = one_step["num_seeds"]
    yield (
        f"Two-digit sums, means of {seeds} seeds, each setting at its best rate; rollouts to "
        f"{results['target']:.3f}, what one step a batch reaches at its best rate "
        "(`python -m benchmarks.update_rules.baselines`)."
    )
