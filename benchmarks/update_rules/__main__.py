"""Compares update rules on equal rollouts.

`python -m benchmarks.update_rules` makes results/table.json and its plot; `--smoke` is the same in
a few minutes, too short to learn anything from. Interrupted, it goes on where it was: finished runs
are files under `--runs`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, run_all, workers
from benchmarks.update_rules import plots, table
from benchmarks.update_rules.analysis import select
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import (
    BATCH_SIZE,
    GROUP_SIZE,
    WARM_UP_BATCHES,
    Budget,
    Run,
)
from benchmarks.update_rules.variants import VARIANTS

HERE = Path(__file__).parent
FULL_BUDGET = Budget(num_batches=80, eval_every=5, eval_samples=2048)
SMOKE_BUDGET = Budget(num_batches=8, eval_every=4, eval_samples=256)


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.update_rules", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few minutes, to see that it runs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table-seeds", type=int, nargs="+", help="fewer, to see a part of it")
    parser.add_argument("--runs", type=Path, default=None, help="finished runs and models")
    parser.add_argument("--output", type=Path, default=None, help="JSON and plots")
    args = parser.parse_args()
    name = "update_rules_smoke" if args.smoke else "update_rules"
    args.runs = (args.runs or Path("runs") / name).resolve()
    args.output = args.output or (args.runs if args.smoke else HERE / "results")
    return args


def main() -> None:
    """Runs what is missing and writes the results."""
    args = parse_args()
    protocol, budget = table.FULL, FULL_BUDGET
    if args.smoke:
        protocol, budget = table.SMOKE, SMOKE_BUDGET
    if args.table_seeds:
        protocol = replace(protocol, table_seeds=args.table_seeds)
    models = args.runs / "models"
    with workers(args.workers) as executor:
        warm_start(protocol.tasks, models, executor)

        def run_stage(runs: Sequence[Run], stage: str) -> list[Result]:
            jobs = [run.job(VARIANTS[run.variant], budget, models) for run in runs]
            return run_all(jobs, args.runs / "runs", executor, stage)

        grid = table.run_grid(protocol, run_stage)
        rates = table.chosen_rates(grid, protocol)
        print("learning rates:", rates, flush=True)
        runs = table.run_table(protocol, rates, run_stage)
    settings = {
        **vars(budget),
        "batch_size": BATCH_SIZE,
        "group_size": GROUP_SIZE,
        "warm_up_batches": WARM_UP_BATCHES,
        "variants": {name: repr(VARIANTS[name].rule) for name in protocol.variants},
        "protocol": vars(protocol),
    }
    write_json(
        args.output / "table.json",
        {
            "environment": environment_record(),
            "settings": settings,
            **table.summarize(grid, runs, rates, protocol),
            "runs": [*grid, *runs],
        },
    )
    panels = {
        task: {
            name: select(runs, task=task, variant=name, lr=rates[name])
            for name in protocol.variants
            if not VARIANTS[name].conservative
        }
        for task in protocol.tasks
    }
    lowest = protocol.rates[0]
    panels[f"{table.GRID_TASK}, every rule at lr {lowest:g}"] = {
        name: at_lowest
        for name in protocol.variants
        if (at_lowest := select(runs, task=table.GRID_TASK, variant=name, lr=lowest))
    }
    plots.plot_curves(args.output / "table.png", panels)


if __name__ == "__main__":
    main()
