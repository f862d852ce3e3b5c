"""Wall-clock to the strongest GRPO's best accuracy, vLLM on one core and the learner on another.

`python -m benchmarks.time_to_accuracy` makes results/time_to_accuracy.json and its plot; `--smoke`
is the same in minutes on shorter sums, too short to learn anything from. Interrupted, it goes on
where it was. Rates are chosen in runs beside each other, at max_staleness 0; the runs that are
timed have the machine to themselves.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, run_all, workers
from benchmarks.time_to_accuracy.plot import plot
from benchmarks.time_to_accuracy.rules import BASELINE, FULL, SMOKE, is_plain, overlapped
from benchmarks.time_to_accuracy.summary import strongest, summarize
from benchmarks.time_to_accuracy.training import train
from benchmarks.update_rules.analysis import best_rate
from benchmarks.update_rules.table import run_grid
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import BATCH_SIZE, GROUP_SIZE, Run
from benchmarks.update_rules.variants import Variant

HERE = Path(__file__).parent


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.time_to_accuracy", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="minutes, to see that it runs")
    parser.add_argument("--rules", nargs="+", choices=FULL.rules, help="fewer; one must be GRPO")
    parser.add_argument("--batches", type=int, help="of a run, instead of the plan's")
    parser.add_argument("--grid-workers", type=int, default=2, help="runs at once, for the rates")
    parser.add_argument("--runs", type=Path, default=None, help="finished runs and models")
    parser.add_argument("--output", type=Path, default=None, help="JSON and plot")
    args = parser.parse_args()
    name = "time_to_accuracy" + "_smoke" * args.smoke
    args.runs = (args.runs or Path("runs") / name).resolve()
    args.output = args.output or (args.runs if args.smoke else HERE / "results")
    return args


def main() -> None:
    """Runs what is missing and writes the results."""
    args = parse_args()
    plan = SMOKE if args.smoke else FULL
    if args.rules:
        rules = {name: FULL.rules[name] for name in args.rules}
        plan = replace(plan, rules=rules, protocol=replace(plan.protocol, variants=tuple(rules)))
    if args.batches:
        plan = replace(plan, budget=replace(plan.budget, num_batches=args.batches))
    protocol, budget, models = plan.protocol, plan.budget, args.runs / "models"
    (task,) = protocol.tasks

    def make(
        runs: Sequence[Run], variants: Mapping[str, Variant], stage: str, num_workers: int
    ) -> list[Result]:
        jobs = [
            replace(
                run.job(variants[run.variant], budget, models),
                function=partial(train, run, variants[run.variant], models / task, budget),
            )
            for run in runs
        ]
        with workers(num_workers) as executor:
            return run_all(jobs, args.runs / "runs", executor, stage)

    with workers(1) as executor:
        warm_start([task], models, executor)
    grid = run_grid(
        protocol, lambda runs, stage: make(runs, plan.rules, stage, args.grid_workers), plan.rules
    )
    rates = {name: best_rate(grid, task=task, variant=name) for name in plan.rules}
    reference = strongest(plan.rules, grid, rates)
    print("learning rates:", rates, "strongest GRPO:", reference, flush=True)
    shown = {
        name: rule
        for name, rule in plan.rules.items()
        if name in (BASELINE, reference) or not is_plain(rule)
    }
    table = make(
        [
            Run(task, variant, rates[name], seed)
            for seed in protocol.table_seeds
            for name in shown
            for variant in overlapped({name: shown[name]})
        ],
        overlapped(shown),
        "table",
        1,
    )
    settings = {
        **asdict(budget),
        "task": task,
        "batch_size": BATCH_SIZE,
        "group_size": GROUP_SIZE,
        "rules": {name: rule.what for name, rule in plan.rules.items()},
        "protocol": asdict(protocol),
    }
    write_json(
        args.output / "time_to_accuracy.json",
        {
            "environment": environment_record(),
            "settings": settings,
            "rates": rates,
            **summarize(shown, reference, rates, table),
            "runs": [*grid, *table],
        },
    )
    plot(args.output / "time_to_accuracy.png", shown, rates, table)


if __name__ == "__main__":
    main()
