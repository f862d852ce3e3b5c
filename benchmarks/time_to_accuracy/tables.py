"""The table of long replies, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.common import interval

Results = Mapping[str, Any]


def time_to_accuracy(results: Results) -> Iterator[str]:
    """A row a rule, overlapped, against the strongest GRPO."""
    yield (
        "| rule | lr | passes | best accuracy | p | fewer rollouts | less time | modelled "
        f"| s a batch | modelled | fewer rollouts for {results['goal']}x less time | reached |"
    )
    yield "|---" * 12 + "|"
    for row in results["rows"]:
        versus = row["vs_grpo"][results["strongest"]]
        p_value = versus["accuracy_gain"].get("p_value")
        cells = [
            row["label"],
            f"{row['lr']:g}",
            f"{row['passes']:g}",
            interval(row["best_accuracy"], 3),
            "" if p_value is None else f"{p_value:.3f}",
            _saved(row, results["strongest"], "rollouts"),
            _saved(row, results["strongest"], "wall_s"),
            f"{row['modelled_time_ratio']:.2f}x" if _is_there(row, results["strongest"]) else "",
            f"{row['batch_s']:.2f}",
            f"{row['modelled_batch_s']:.2f}",
            f"{row['rollouts_ratio_for_goal']:.2f}x",
            f"{versus['num_reached']}/{row['num_seeds']}",
        ]
        yield "| " + " | ".join(cells) + " |"


def time_headline(results: Results) -> Iterator[str]:
    """For the README: what wins time, against the strongest GRPO and the fastest."""
    rows = results["rows"]
    labels = {row["rule"]: row["label"] for row in rows}
    plain = [row for row in rows if row["rule"] in rows[0]["vs_grpo"]]
    quick = [row for row in plain if row["passes"] == 1]
    fastest = max(quick, key=lambda row: row["best_accuracy"]["value"])["rule"]
    others = (results["strongest"], fastest)
    yield (
        "| | passes | best accuracy | fewer rollouts than "
        + " | less time than ".join([labels[others[0]], *(labels[name] for name in others)])
        + " |"
    )
    yield "|---" * 6 + "|"
    for row in rows:
        is_winner = row not in plain and _is_there(row, results["strongest"])
        if is_winner or row["rule"] in others:
            cells = [
                row["label"],
                f"{row['passes']:g}",
                f"{row['best_accuracy']['value']:.3f}",
                _saved(row, others[0], "rollouts"),
                *(_saved(row, name, "wall_s") for name in others),
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
        cells = ["" if name == row["rule"] else _saved(row, name, "wall_s") for name in plain]
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
        "own best, and p is that of the difference in best accuracy; not reached: most runs do not "
        "come to it; a run that does not counts as its whole length. In turns (one seed) sampling "
        f"a batch takes s = {results['sample_s']:.2f} s and a pass l = {passes}. "
        "Modelled is a batch of max(s, P l), with the l of the overlapped runs. "
        f"{machine['cpu']} (`python -m benchmarks.time_to_accuracy`)."
    )


def _is_there(row: Mapping[str, Any], name: str) -> bool:
    """Whether most of its runs come to the best accuracy of that GRPO."""
    return bool(2 * row["vs_grpo"][name]["num_reached"] >= row["num_seeds"])


def _saved(row: Mapping[str, Any], name: str, cost: str) -> str:
    ratio = row["vs_grpo"][name][f"{cost}_ratio"]
    return interval(ratio, 2, "x") if _is_there(row, name) else "not reached"
