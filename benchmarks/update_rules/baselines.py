"""The strongest GRPO: learning rate x mini-batches x epochs, all tuned, on the grid's seeds.

`python -m benchmarks.update_rules.baselines` makes results/baselines.json. Every other comparison
takes its reference from there. Interrupted, it goes on where it was.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, run_all, workers
from benchmarks.update_rules.__main__ import HERE
from benchmarks.update_rules.analysis import best_accuracy, cost_to_reach, describe, select
from benchmarks.update_rules.table import FULL, Protocol, run_grid
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import BATCH_SIZE, Budget, Run
from benchmarks.update_rules.variants import Variant
from sfpo_rllib.core import MultiEpoch, Single

BUDGET = Budget(num_batches=80, eval_every=5, eval_samples=1024)
EPOCHS = (1, 2, 4)
MINIBATCHES = (1, 2, 4, 8, 16)


def name_of(epochs: int, minibatches: int) -> str:
    """Of a setting of GRPO."""
    return f"grpo-{epochs}x{minibatches}"


SETTINGS: dict[str, Variant] = {
    name_of(epochs, minibatches): Variant(
        MultiEpoch(epochs) if epochs > 1 else Single(),
        f"GRPO, {epochs} x {minibatches}",
        minibatches=minibatches,
    )
    for epochs in EPOCHS
    for minibatches in MINIBATCHES
}
PROTOCOL = Protocol(
    variants=tuple(SETTINGS),
    tasks=FULL.tasks,
    rates=(1.5e-4, 3e-4),
    grid_seeds=FULL.grid_seeds,
    table_seeds=(),
    at_baseline_rate=(),
    conservative=(),
    max_extra_rates=2,
)


def summarize(runs: Sequence[Result], variants: Mapping[str, Variant]) -> dict[str, Any]:
    """Every setting at every rate on one task, and which are the strongest.

    The target is what one step a batch reaches at its best rate, the mean over seeds. Costs to it
    are means over seeds, as two seeds have no better summary.

    Returns:
        `target`; `rows` with name, lr, passes, accuracy and cost; `strongest`: the rows with the
        fewest rollouts and the fewest passes to the target, and with the highest accuracy.
    """
    pairs = sorted({(r["run"]["variant"], r["run"]["lr"]) for r in runs})
    of = {pair: select(runs, variant=pair[0], lr=pair[1]) for pair in pairs}

    def accuracy(pair: tuple[str, float]) -> float:
        return float(np.mean([best_accuracy(run) for run in of[pair]]))

    one_step = [pair for pair in pairs if pair[0] == name_of(1, 1)]
    target = max(map(accuracy, one_step))
    rows = []
    for name, lr in pairs:
        passes = variants[name].passes
        cost = float(np.mean([cost_to_reach(r, target, "rollouts") for r in of[name, lr]]))
        rows.append(
            {
                "name": name,
                "lr": lr,
                "passes": passes,
                "minibatches": variants[name].minibatches,
                "mean_best_accuracy": accuracy((name, lr)),
                "mean_rollouts_to_target": cost,
                "mean_passes_to_target": cost / BATCH_SIZE * passes,
                **describe(of[name, lr], target),
            }
        )
    reached = [row for row in rows if row["num_reached_target"] == row["num_seeds"]]
    return {
        "target": target,
        "rows": rows,
        "strongest": {
            "rollouts": min(reached, key=lambda row: row["mean_rollouts_to_target"]),
            "passes": min(reached, key=lambda row: row["mean_passes_to_target"]),
            "accuracy": max(rows, key=lambda row: row["mean_best_accuracy"]),
        },
    }


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.update_rules.baselines", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", nargs="+", choices=PROTOCOL.tasks, default=PROTOCOL.tasks)
    parser.add_argument("--runs", type=Path, default=Path("runs/strongest"))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    args = parser.parse_args()
    folder = args.runs.resolve()
    with workers(args.workers) as executor:
        warm_start(args.tasks, folder / "models", executor)

        def run_stage(runs: Sequence[Run], stage: str) -> list[Result]:
            jobs = [run.job(SETTINGS[run.variant], BUDGET, folder / "models") for run in runs]
            return run_all(jobs, folder / "runs", executor, stage)

        runs = {
            task: run_grid(replace(PROTOCOL, tasks=(task,)), run_stage, SETTINGS)
            for task in args.tasks
        }
    tasks = {task: summarize(of_task, SETTINGS) for task, of_task in runs.items()}
    write_json(
        args.output / "baselines.json",
        {
            "environment": environment_record(),
            "tasks": tasks,
            "runs": [run for of_task in runs.values() for run in of_task],
        },
    )
    for task, summary in tasks.items():
        for what, row in summary["strongest"].items():
            print(
                f"{task:15} {what:9} {row['name']} at lr {row['lr']:g}: best "
                f"{row['mean_best_accuracy']:.3f}, {row['mean_rollouts_to_target']:.0f} rollouts "
                f"to {summary['target']:.3f}"
            )


if __name__ == "__main__":
    main()
