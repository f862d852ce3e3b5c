"""The table of the pretrained model, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.common import interval
from benchmarks.pretrained.rules import RULES
from benchmarks.update_rules.analysis import best_accuracy, select

Results = Mapping[str, Any]


def pretrained(results: Results) -> Iterator[str]:
    """A row a rule, each against the strongest GRPO."""
    yield (
        "| rule | lr | passes | accuracy before | best | fewer rollouts | less time "
        "| s sampling a batch | s learning | reached |"
    )
    yield "|---" * 10 + "|"
    labels = {}
    for row in results["rows"]:
        labels[row["rule"]] = row["label"]
        versus = row["vs_strongest"]
        cells = [
            row["label"],
            f"{row['lr']:g}",
            f"{row['passes']:g}",
            f"{row['start_accuracy']:.3f}",
            interval(row["best_accuracy"], 3),
            interval(versus["rollouts_ratio"], 2, "x"),
            interval(versus["wall_s_ratio"], 2, "x"),
            f"{row['sample_s']:.1f}",
            f"{row['learn_s']:.1f}",
            f"{versus['num_reached']}/{row['num_seeds']}",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    settings, machine = results["settings"], results["environment"]["machine"]
    seeds, grid_seeds = (
        ", ".join(map(str, settings[name])) for name in ("table_seeds", "grid_seeds")
    )
    rates = ", ".join(f"{lr:g}" for lr in settings["rates"])
    chosen = ", ".join(
        f"{RULES[name].label} {best:.3f}" for name, best in at_chosen_rates(results).items()
    )
    device = f"{machine['gpu']} in bfloat16" if "gpu" in machine else f"{machine['cpu']} in float32"
    yield (
        f"SmolLM2-135M-Instruct on short word problems, {settings['num_batches']} batches of "
        f"{settings['batch_size']} replies of at most {settings['max_tokens']} tokens, prompts "
        f"shared and packed; seeds {seeds}, rates of {rates} chosen with seed {grid_seeds}. With "
        f"that seed the best accuracies are {chosen}: so GRPO is reported as "
        f"{labels[results['strongest']]}. {device}, shared by {settings['workers']} runs, so that "
        "seconds compare only roughly (`python -m benchmarks.pretrained`)."
    )


def at_chosen_rates(results: Results) -> dict[str, float]:
    """By rule the best accuracy with the seeds that rates were chosen with."""
    seeds = results["settings"]["grid_seeds"]
    return {
        name: float(
            np.mean(
                [
                    best_accuracy(run)
                    for run in select(results["runs"], variant=name, lr=lr)
                    if run["run"]["seed"] in seeds
                ]
            )
        )
        for name, lr in results["rates"].items()
    }
