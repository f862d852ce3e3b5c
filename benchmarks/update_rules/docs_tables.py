"""Tables of the comparisons with the strongest GRPO, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.common import interval

TASKS = {"arithmetic": "sums", "spell_backward": "spelling"}
HEADLINE = (
    "grpo-1x16",
    "grpo-4x16",
    "sfpo_paper",
    "sfpo-3x4",
    "lookahead-4x16",
    "sfpo_replay-8x4",
    "priority-8x4",
    "sfpo_priority-8x4",
)


def baselines(results: Mapping[str, Any], task: str) -> Iterator[str]:
    """GRPO by epochs and mini-batches on a task, each at the rate of its highest accuracy."""
    of_task = results["tasks"][task]
    rows: dict[str, Mapping[str, Any]] = {}
    for row in of_task["rows"]:
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
            f"{fewer:.2f}x" if reached else "not reached",
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    seeds = one_step["num_seeds"]
    yield (
        f"Means of {seeds} seeds, each setting at its best rate; rollouts to "
        f"{of_task['target']:.3f}, what one step a batch reaches at its best rate "
        "(`python -m benchmarks.update_rules.baselines`)."
    )


def against_strongest(results: Mapping[str, Any], task: str) -> Iterator[str]:
    """Every contender, by passes, against the strongest GRPO."""
    yield (
        "| rule | passes | lr | best accuracy | p | fewer rollouts "
        "| than GRPO of as many passes and steps | less time | long replies | reached |"
    )
    yield "|---" * 10 + "|"
    pareto = results["pareto"][task]
    for row in sorted(results["tasks"][task], key=lambda row: row["passes"]):
        versus, equal = row["vs_reference"], row["vs_equal_steps"]
        p_value = versus["accuracy_gain"].get("p_value")
        cells = [
            f"**{row['label']}**" if row["name"] in pareto else row["label"],
            f"{row['passes']:g}",
            f"{row['lr']:g}",
            _accuracies(row),
            "" if p_value is None else f"{p_value:.3f}",
            _saved(versus, "rollouts"),
            _saved(equal, "rollouts") if equal else "",
            interval(row["time_ratio"], 2, "x") if versus["num_reached"] else "not reached",
            f"{row['long_replies_time_ratio']:.2f}x" if versus["num_reached"] else "not reached",
            f"{versus['num_reached']}/{row['num_seeds']}",
        ]
        yield "| " + " | ".join(cells) + " |"


def _seeds_and_rates(settings: Mapping[str, Any]) -> tuple[str, str, str]:
    """The table's seeds, the grid's, and the rates that it begins with."""
    table_seeds, grid_seeds = (
        ", ".join(map(str, settings[name])) for name in ("table_seeds", "grid_seeds")
    )
    return table_seeds, grid_seeds, " and ".join(f"{lr:g}" for lr in settings["rates"])


def strongest_setup(results: Mapping[str, Any]) -> Iterator[str]:
    """How the tables against the strongest GRPO were made, and what their columns are."""
    settings, machine = results["settings"], results["environment"]["machine"]
    table_seeds, grid_seeds, rates = _seeds_and_rates(settings)
    yield (
        f"{settings['num_batches']} batches of 128 rollouts (16 problems x 8) a run, seeds "
        f"{table_seeds}; each setting at its own best learning rate, chosen on the same task with "
        f"seed {grid_seeds} from {rates} and on by factors of 2 while the best was at an edge; "
        "where another rate was chosen on sums, the accuracy at that one too. "
        f"{settings['eval_samples']:,} samples of held-out problems every "
        f"{settings['eval_every']} batches. Names are epochs or K, and optimizer steps a pass. "
        "*Fewer rollouts*: the strongest GRPO's to its best accuracy over the rule's to the same, "
        "median over seeds with a 95% bootstrap interval; *less time* is that times the ratio of "
        "CPU seconds a batch, medians of the runs that chose the rates; "
        "*long replies*: in modelled time, if sampling a batch takes as long as "
        f"{results['long_replies']:g} passes of one step and is overlapped with learning. p: "
        "paired t-test on best accuracies. Bold: nothing with as many passes or fewer saves more "
        "over one step. "
        f"{machine['cpu']}, one thread a run (`{results['environment']['command']}`)."
    )


def strongest_headline(results: Mapping[str, Any]) -> Iterator[str]:
    """A few contenders on both tasks: against the strongest GRPO, and against one step a batch."""
    titles = [
        column
        for title in TASKS.values()
        for column in (f"{title}: than the strongest GRPO", "than one step", "best accuracy")
    ]
    yield "| fewer rollouts | passes | " + " | ".join(titles) + " |"
    yield "|---" * (2 + len(titles)) + "|"
    rows = {task: {row["name"]: row for row in results["tasks"][task]} for task in TASKS}
    for name in HEADLINE:
        of_name = [rows[task][name] for task in TASKS]
        cells = [of_name[0]["label"], f"{of_name[0]['passes']:g}"]
        for row in of_name:
            cells += [
                _saved(row["vs_reference"], "rollouts"),
                _saved(row["vs_one_step"], "rollouts"),
                f"{row['best_accuracy']['value']:.3f}",
            ]
        yield "| " + " | ".join(cells) + " |"


def _accuracies(row: Mapping[str, Any]) -> str:
    """The best accuracy, and that at the rate that was chosen on sums if it is another."""
    own, other = interval(row["best_accuracy"], 3), row["at_rate_of_sums"]
    if other["lr"] == row["lr"]:
        return own
    return f"{own}; {other['best_accuracy']['value']:.3f} at {other['lr']:g}"


def _saved(versus: Mapping[str, Any], cost: str) -> str:
    """How much less of a cost, where any seed gets to the other's best accuracy."""
    return interval(versus[f"{cost}_ratio"], 2, "x") if versus["num_reached"] else "not reached"


def paper_pair(results: Mapping[str, Any]) -> Iterator[str]:
    """The published code's SFPO against its GRPO, at common rates."""
    yield "| task | lr of both | GRPO | SFPO | p | fewer rollouts | reached |"
    yield "|---" * 7 + "|"
    for task, of_task in results["paper_pair"].items():
        for lr, versus in of_task.items():
            grpo, sfpo = versus["best_accuracy"].values()
            gain, reached = versus["accuracy_gain"], versus["num_reached"]
            cells = [
                TASKS[task],
                lr,
                interval(grpo, 3),
                interval(sfpo, 3),
                f"{gain['p_value']:.3f}",
                _saved(versus, "rollouts"),
                f"{reached}/{len(results['settings']['table_seeds'])}",
            ]
            yield "| " + " | ".join(cells) + " |"


def levers(results: Mapping[str, Any], task: str) -> Iterator[str]:
    """What others report to help, each beside the same without it and the strongest GRPO."""
    yield (
        "| lever | passes at most | lr | best accuracy | control | its best accuracy | p "
        "| fewer rollouts than the control | than the strongest GRPO |"
    )
    yield "|---" * 9 + "|"
    for row in results["tasks"][task]:
        p_value = row["vs_control"]["accuracy_gain"].get("p_value")
        cells = [
            row["label"],
            f"{row['passes']:g}",
            f"{row['lr']:g}",
            _accuracies(row),
            f"{row['control_label']}, {row['control_lr']:g}",
            f"{row['control_best_accuracy']['value']:.3f}",
            "" if p_value is None else f"{p_value:.3f}",
            _saved(row["vs_control"], "rollouts"),
            _saved(row["vs_reference"], "rollouts"),
        ]
        yield "| " + " | ".join(cells) + " |"


def plain_steps(results: Mapping[str, Any]) -> Iterator[str]:
    """Rules with plain gradient steps, by rate."""
    rules = {name: by for name, by in results["variants"].items() if name.endswith(",sgd")}
    rates = sorted({lr for by in rules.values() for lr in by}, key=float)
    yield "| best accuracy with plain gradient steps at a rate of | " + " | ".join(rates) + " |"
    yield "|---" * (1 + len(rates)) + "|"
    for name, by in rules.items():
        accuracies = (f"{by[lr]['best_accuracy']['value']:.3f}" for lr in rates)
        yield f"| `{name.removesuffix(',sgd')}` | " + " | ".join(accuracies) + " |"


def levers_setup(results: Mapping[str, Any]) -> Iterator[str]:
    """How the tables of levers were made."""
    settings, machine = results["settings"], results["environment"]["machine"]
    table_seeds, grid_seeds, rates = _seeds_and_rates(settings)
    yield (
        f"As above: {settings['num_batches']} batches of 128, seeds {table_seeds}; levers and "
        f"controls each at a rate of its own, chosen on the same task with seed {grid_seeds} from "
        f"{rates} and on by factors of 2. A control is the same without the lever; medians over "
        f"seeds with 95% intervals. {machine['cpu']} (`{results['environment']['command']}`)."
    )
