"""The table of long replies, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.common import interval

Results = Mapping[str, Any]


def time_to_accuracy(results: Results) -> Iterator[str]:
    """A row a rule, overlapped, against the strongest GRPO."""
    yield (
        "| rule | lr | passes | best accuracy | fewer rollouts | less time | modelled "
        f"| s a batch | modelled | fewer rollouts for {results['goal']}x less time | reached |"
    )
    yield "|---" * 11 + "|"
    for row in results["rows"]:
        versus = row["vs_grpo"][results["strongest"]]
        cells = [
            row["label"],
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


def less_time_than_each(results: Results) -> Iterator[str]:
    """A row a rule, overlapped: how much sooner it is at the best accuracy of each GRPO."""
    rows = results["rows"]
    labels = {row["rule"]: row["label"] for row in rows}
    plain = list(rows[0]["vs_grpo"])
    yield "| less time than | " + " | ".join(labels[name] for name in plain) + " |"
    yield "|---" * (1 + len(plain)) + "|"
    for row in rows:
        cells = [
            "" if name == row["rule"] else interval(row["vs_grpo"][name]["wall_s_ratio"], 2, "x")
            for name in plain
        ]
        yield f"| {row['label']} | " + " | ".join(cells) + " |"


def time_to_accuracy_setup(results: Results) -> Iterator[str]:
    """How the tables were made."""
    settings, machine = results["settings"], results["environment"]["machine"]
    seeds = ", ".join(map(str, settings["seeds"]))
    labels = {row["rule"]: row["label"] for row in results["rows"]}
    passes = ", ".join(
        f"{seconds:.2f} s of {labels[name]}" for name, seconds in results["pass_s"].items()
    )
    yield (
        f"Sums of six digits with the working written out, some 75 tokens a reply; "
        f"{settings['num_batches']} batches of {settings['batch_size']} a run, seeds {seeds}, "
        "`max_staleness=1`, vLLM on one core and the learner on another, a run at a time; rates as "
        "chosen on sums of two digits, with another seed. The strongest GRPO is the one of the "
        f"best mean accuracy, {labels[results['strongest']]}; ratios are to what it takes to its "
        "own best. In turns (one seed) sampling a batch takes s = "
        f"{results['sample_s']:.2f} s and a pass l = {passes}. "
        "Modelled is a batch of max(s, P l), with the l of the overlapped runs. "
        f"{machine['cpu']} (`python -m benchmarks.time_to_accuracy`)."
    )
