"""The table of long replies, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.common import interval

Results = Mapping[str, Any]


def time_to_accuracy(results: Results) -> Iterator[str]:
    """A row a rule and staleness, each against the strongest GRPO at the same staleness."""
    yield (
        "| rule | S | lr | passes | best accuracy | fewer rollouts | less time | modelled "
        f"| s a batch | modelled | fewer rollouts for {results['goal']}x less time | reached |"
    )
    yield "|---" * 12 + "|"
    labels = {}
    for row in results["rows"]:
        labels[row["rule"]] = row["label"]
        versus = row["vs_strongest"]
        cells = [
            row["label"],
            f"{row['max_staleness']}",
            f"{row['lr']:g}",
            f"{row['passes']:g}",
            interval(row["best_accuracy"], 3),
            interval(versus["rollouts_ratio"], 2, "x"),
            interval(versus["wall_s_ratio"], 2, "x"),
            f"{row['modelled_time_ratio']:.2f}x",
            f"{row['batch_s']:.2f}",
            f"{row['modelled_batch_s']:.2f}",
            f"{row['rollouts_ratio_for_goal']:.2f}x",
            f"{versus['num_reached']}/{row['num_seeds']}",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    settings, machine = results["settings"], results["environment"]["machine"]
    seeds = ", ".join(map(str, settings["seeds"]))
    passes = ", ".join(
        f"{row['pass_s']:.2f}" for row in results["rows"][:: _num_staleness(results)]
    )
    yield (
        f"Sums of six digits with the working written out, some 75 tokens a reply; "
        f"{settings['num_batches']} batches of {settings['batch_size']} a run, seeds {seeds}, "
        "rates as chosen on sums of two digits, with another seed. The strongest GRPO is "
        f"{labels[results['strongest']]}; ratios "
        "are to what it takes to its own best accuracy at the same S. vLLM on one core, the "
        f"learner on another. Sampling a batch takes s = {results['sample_s']:.2f} s and a pass "
        f"l = {passes} s; modelled are s + P l at S = 0 and max(s, P l) at S = 1. {machine['cpu']} "
        "(`python -m benchmarks.time_to_accuracy`)."
    )


def _num_staleness(results: Results) -> int:
    return len({row["max_staleness"] for row in results["rows"]})
