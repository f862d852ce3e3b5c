"""Every rule against the strongest GRPO, at 1, 2, 4 and 8 passes over a batch.

`python -m benchmarks.update_rules.strongest` makes results/strongest.json and its plot, rollouts
saved over passes spent. The reference is the GRPO of the highest accuracy in
`benchmarks.update_rules.baselines`, the same on both tasks. Rates are chosen task by task, on seeds
of their own; interrupted, it goes on where it was.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, run_all, workers
from benchmarks.update_rules.__main__ import HERE
from benchmarks.update_rules.analysis import (
    best_accuracy,
    best_rate,
    compare,
    describe,
    modelled_s,
    select,
    with_interval,
)
from benchmarks.update_rules.baselines import BUDGET, SETTINGS, name_of
from benchmarks.update_rules.table import GRID_TASK, Protocol, run_grid
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import Run
from benchmarks.update_rules.variants import Variant
from sfpo_rllib.core import Lookahead, MultiEpoch, SlowFast, SlowFastReplay

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt

ALPHA = 0.3
REFERENCE = name_of(4, 16)  # highest accuracy in baselines.json
ONE_STEP = name_of(1, 1)
LONG_REPLIES = 20.0  # passes of one step that sampling a batch takes, in modelled time
PAPER = ("grpo-1x4", "sfpo_paper")  # its code's own pair
PAPER_RATES = (7.5e-5, 1.5e-4, 3e-4)  # at which it is compared, one for both

CONTENDERS: dict[str, Variant] = {
    **{
        name: SETTINGS[name]
        for name in (
            name_of(1, 1),
            name_of(1, 4),
            name_of(1, 16),
            name_of(2, 16),
            name_of(4, 4),
            REFERENCE,
        )
    },
    "grpo-8x4": Variant(MultiEpoch(8), "GRPO, 8 x 4", minibatches=4),
    "lookahead-1x16": Variant(Lookahead(1, ALPHA), "lookahead, 1 x 16, alpha=0.3", minibatches=16),
    "lookahead-2x16": Variant(Lookahead(2, ALPHA), "lookahead, 2 x 16, alpha=0.3", minibatches=16),
    "sfpo-1x16+1": Variant(
        SlowFast(1, ALPHA, fast_minibatches=16, slow_minibatches=1),
        "SFPO, K=1, fast x 16, slow x 1, alpha=0.3",
    ),
    "sfpo_paper": Variant(SlowFast(3, 0.8), "SFPO, K=3, x 4, alpha=0.8 (paper)", minibatches=4),
    "sfpo-3x4": Variant(SlowFast(3, ALPHA), "SFPO, K=3, x 4, alpha=0.3", minibatches=4),
    "sfpo-3x16": Variant(SlowFast(3, ALPHA), "SFPO, K=3, x 16, alpha=0.3", minibatches=16),
    "lookahead-4x16": Variant(Lookahead(4, ALPHA), "lookahead, 4 x 16, alpha=0.3", minibatches=16),
    "replay-4x16": Variant(SlowFastReplay(1, 1.0, 3), "plain replay, M=3, x 16", minibatches=16),
    "sfpo_replay-4x16": Variant(
        SlowFastReplay(1, ALPHA, 3), "slow-fast replay, M=3, x 16, alpha=0.3", minibatches=16
    ),
    "priority-4x16": Variant(
        SlowFastReplay(1, 1.0, 3, by="group", max_age=10, priority=1.0),
        "plain replay by advantage, M=3, x 16",
        minibatches=16,
    ),
    "sfpo_priority-4x16": Variant(
        SlowFastReplay(1, ALPHA, 3, by="group", max_age=10, priority=1.0),
        "slow-fast replay by advantage, M=3, x 16, alpha=0.3",
        minibatches=16,
    ),
    "sfpo-7x1": Variant(SlowFast(7, ALPHA), "SFPO, K=7, alpha=0.3"),
    "replay-8x4": Variant(SlowFastReplay(2, 1.0, 6), "plain replay, M=6, x 4", minibatches=4),
    "sfpo_replay-8x4": Variant(
        SlowFastReplay(2, ALPHA, 6), "slow-fast replay, M=6, x 4, alpha=0.3", minibatches=4
    ),
    "priority-8x4": Variant(
        SlowFastReplay(2, 1.0, 6, by="group", max_age=10, priority=1.0),
        "plain replay by advantage, M=6, x 4",
        minibatches=4,
    ),
    "sfpo_priority-8x4": Variant(
        SlowFastReplay(2, ALPHA, 6, by="group", max_age=10, priority=1.0),
        "slow-fast replay by advantage, M=6, x 4, alpha=0.3",
        minibatches=4,
    ),
}
TITLES = {GRID_TASK: "two-digit sums", "spell_backward": "spelling backward"}
COLOURS = {  # of what has no slow-fast reposition; the others are blue
    "grpo": "tab:grey",
    "lookahead": "tab:orange",
    "replay": "tab:green",
    "priority": "tab:green",
}
PROTOCOL = Protocol(
    variants=tuple(CONTENDERS),
    tasks=(GRID_TASK, "spell_backward"),
    rates=(1.5e-4, 3e-4),
    grid_seeds=(0,),
    table_seeds=(10, 11, 12, 13, 14),
    at_baseline_rate=(),
    conservative=(),
    max_extra_rates=3,
)


def table_runs(
    task: str,
    names: Sequence[str],
    rates: Mapping[str, Mapping[str, float]],
    seeds: Sequence[int],
) -> list[Run]:
    """Of a task's table: each variant at its rate, and at the one that it has on sums."""
    return [
        Run(task, name, lr, seed)
        for seed in seeds
        for name in names
        for lr in dict.fromkeys((rates[task][name], rates[GRID_TASK].get(name, rates[task][name])))
    ]


def at_rate_of_sums(
    table: Sequence[Result], task: str, name: str, rates: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """How a variant does on a task at the rate that was chosen on sums."""
    lr = rates[GRID_TASK].get(name, rates[task][name])
    runs = select(table, task=task, variant=name, lr=lr)
    return {"lr": lr, "best_accuracy": with_interval(list(map(best_accuracy, runs)), np.mean)}


def summarize(
    grid: Sequence[Result],
    table: Sequence[Result],
    rates: Mapping[str, Mapping[str, float]],
    protocol: Protocol,
) -> dict[str, list[dict[str, Any]]]:
    """By task a row a contender, with ratios to the reference, seed by seed.

    Returns:
        What `describe` says, with accuracies of the reference as target; `at_rate_of_sums`, the
        accuracy at the rate that was chosen on sums; `learn_s` and `cpu_s`, the
        median seconds that learning and all of a batch take in the runs of the grid, which are made
        in one go; `vs_reference`, `vs_one_step` and `vs_equal_steps`, what `compare` says: to the
        reference, to one step a batch, and to the GRPO of as many passes and optimizer steps (None
        if there is none), each at its own rate. `time_ratio`, that of rollouts to the reference's
        times that of `cpu_s`; `long_replies_time_ratio`, times that of modelled seconds a batch, if
        sampling takes as long as `LONG_REPLIES` passes of one step and is overlapped.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for task in protocol.tasks:
        of_task = {
            name: select(table, task=task, variant=name, lr=rates[task][name])
            for name in protocol.variants
        }
        reference = of_task[REFERENCE]
        if not reference:
            continue
        target = float(np.mean([best_accuracy(run) for run in reference]))
        timed = {name: select(grid, task=task, variant=name) for name in protocol.variants}
        learn_s = {
            name: float(np.median([run["stages"]["learn"] for run in runs]))
            for name, runs in timed.items()
        }
        cpu_s = {
            name: float(np.median([run["curve"]["cpu_s"][-1] for run in runs])) / BUDGET.num_batches
            for name, runs in timed.items()
        }
        sample_s = LONG_REPLIES * learn_s[ONE_STEP]
        rows[task] = []
        for name, runs in of_task.items():
            if len(runs) != len(reference):
                continue
            versus = compare(runs, reference)
            plain = of_equal_steps(name)
            times_as_long = modelled_s(sample_s, learn_s[name], 1) / modelled_s(
                sample_s, learn_s[REFERENCE], 1
            )
            rows[task].append(
                {
                    "name": name,
                    "label": CONTENDERS[name].label,
                    "passes": CONTENDERS[name].passes,
                    "lr": rates[task][name],
                    **describe(runs, target),
                    "at_rate_of_sums": at_rate_of_sums(table, task, name, rates),
                    "learn_s": learn_s[name],
                    "cpu_s": cpu_s[name],
                    "vs_reference": versus,
                    "vs_one_step": compare(runs, of_task[ONE_STEP]),
                    "equal_steps": plain,
                    "vs_equal_steps": compare(runs, of_task[plain]) if plain else None,
                    "time_ratio": _times(versus["rollouts_ratio"], cpu_s[REFERENCE] / cpu_s[name]),
                    "long_replies_time_ratio": versus["rollouts_ratio"]["value"] / times_as_long,
                }
            )
    return rows


def _times(ratio: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A ratio and its interval, times a number."""
    return {
        "value": ratio["value"] * factor,
        "interval": [bound * factor for bound in ratio["interval"]],
    }


def of_equal_steps(name: str) -> str | None:
    """The GRPO with as many passes and optimizer steps, if a rule has one here."""
    variant = CONTENDERS[name]
    plain = name_of(int(variant.passes), variant.minibatches)
    return plain if plain in CONTENDERS and variant.what != CONTENDERS[plain].what else None


def paper_pair(runs: Sequence[Result], task: str) -> dict[str, Any]:
    """The published code's pair at common rates: by rate both best accuracies, and `compare`."""
    pair: dict[str, Any] = {}
    for lr in PAPER_RATES:
        base, rule = (select(runs, task=task, variant=name, lr=lr) for name in PAPER)
        accuracies = (with_interval(list(map(best_accuracy, one)), np.mean) for one in (base, rule))
        pair[f"{lr:g}"] = {
            "best_accuracy": dict(zip(PAPER, accuracies, strict=True)),
            **compare(rule, base),
        }
    return pair


def pareto(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Contenders that none beats in rollouts saved over one step with as many passes or fewer."""

    def saved(row: Mapping[str, Any]) -> float:
        return float(row["vs_one_step"]["rollouts_ratio"]["value"])

    return [
        row["name"]
        for row in rows
        if all(
            saved(other) < saved(row) or other is row
            for other in rows
            if other["passes"] <= row["passes"]
        )
    ]


def plot(path: Path, tasks: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Rollouts saved over one step a batch, over passes, a panel a task."""
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(5.2 * len(tasks) + 4.2, 5), squeeze=False, sharey=True
    )
    for axis, (task, rows) in zip(axes[0], tasks.items(), strict=True):
        best = pareto(rows)
        beside = [row["passes"] for row in rows]
        for number, row in enumerate(rows):
            kind = row["name"].partition("-")[0]
            ratio = row["vs_one_step"]["rollouts_ratio"]
            low, high = ratio["interval"]
            # Those of as many passes stand next to each other.
            place = beside[:number].count(row["passes"]) - (beside.count(row["passes"]) - 1) / 2
            x = row["passes"] * 2 ** (place * 0.085)
            axis.errorbar(
                x,
                ratio["value"],
                yerr=[[max(ratio["value"] - low, 0)], [max(high - ratio["value"], 0)]],
                marker="o",
                color=COLOURS.get(kind, "tab:blue"),
                markersize=15 if row["name"] in best else 11,
                elinewidth=0.8,
                label=f"{number + 1}  {row['label']}",
            )
            axis.annotate(
                str(number + 1),
                (x, ratio["value"]),
                fontsize=7.5,
                color="white",
                ha="center",
                va="center_baseline",
            )
            if row["name"] == REFERENCE:
                axis.axhline(ratio["value"], color="tab:grey", lw=0.8, ls="--")
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axis.set(title=TITLES[task], xlabel="passes over a batch (large: nothing saves more)")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("times fewer rollouts than GRPO of one step a batch")
    handles = [bar.lines[0] for bar in axes[0][-1].containers]
    labels = [bar.get_label() for bar in axes[0][-1].containers]
    figure.tight_layout()
    figure.subplots_adjust(right=1 - 4.3 / figure.get_figwidth())
    figure.legend(handles, labels, loc="center right", fontsize=7.5, markerscale=0.5, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.update_rules.strongest", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", default=list(PROTOCOL.tasks), help="fewer")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="besides GRPO")
    parser.add_argument("--runs", type=Path, default=Path("runs/strongest"))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    args = parser.parse_args()
    names = tuple(
        name
        for name in CONTENDERS
        if name.startswith("grpo-") or not args.contenders or name in args.contenders
    )
    folder = args.runs.resolve()
    protocol = replace(PROTOCOL, tasks=tuple(args.tasks), variants=names)
    with workers(args.workers) as executor:
        warm_start({GRID_TASK, *protocol.tasks}, folder / "models", executor)

        def run_stage(runs: Sequence[Run], stage: str) -> list[Result]:
            jobs = [run.job(CONTENDERS[run.variant], BUDGET, folder / "models") for run in runs]
            return run_all(jobs, folder / "runs", executor, stage)

        grid = [
            run
            for task in protocol.tasks
            for run in run_grid(replace(protocol, tasks=(task,)), run_stage, CONTENDERS)
        ]
        rates = {
            task: {name: best_rate(grid, task=task, variant=name) for name in protocol.variants}
            for task in protocol.tasks
        }
        print("learning rates:", rates, flush=True)
        table = run_stage(
            [
                run
                for task in protocol.tasks
                for run in table_runs(task, protocol.variants, rates, protocol.table_seeds)
            ],
            "table",
        )
        pair = run_stage(
            [
                Run(task, name, lr, seed)
                for task in protocol.tasks
                for seed in protocol.table_seeds
                for lr in PAPER_RATES
                for name in PAPER
            ],
            "the paper's pair",
        )
    tasks = summarize(grid, table, rates, protocol)
    write_json(
        args.output / "strongest.json",
        {
            "environment": environment_record(),
            "settings": {
                **vars(BUDGET),
                **vars(protocol),
                "reference": REFERENCE,
                "contenders": {name: variant.what for name, variant in CONTENDERS.items()},
            },
            "rates": rates,
            "long_replies": LONG_REPLIES,
            "tasks": tasks,
            "paper_pair": {task: paper_pair(pair, task) for task in protocol.tasks},
            "pareto": {task: pareto(rows) for task, rows in tasks.items()},
            "runs": [*grid, *table, *(run for run in pair if run not in table)],
        },
    )
    plot(args.output / "strongest.png", tasks)
    for task, rows in tasks.items():
        for row in rows:
            ratio = row["vs_reference"]["rollouts_ratio"]["value"]
            print(f"{task:15} {row['label']:45} {row['lr']:g} {ratio:.2f}x")


if __name__ == "__main__":
    main()
