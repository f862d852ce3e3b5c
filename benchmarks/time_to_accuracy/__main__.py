"""Wall-clock to GRPO's best accuracy, vLLM on one core and the learner on another.

`python -m benchmarks.time_to_accuracy` makes results/time_to_accuracy.json and its plot; `--smoke`
is the same in minutes on shorter sums, too short to learn anything from. Interrupted, it goes on
where it was. Every rule's learning rate is that of `benchmarks.update_rules.strongest` on two-digit
sums; a run has the machine to itself.
"""

import argparse
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks.common import environment_record, write_json
from benchmarks.pool import run_all, workers
from benchmarks.time_to_accuracy.plot import plot
from benchmarks.time_to_accuracy.rules import FULL, SMOKE, at
from benchmarks.time_to_accuracy.summary import summarize
from benchmarks.time_to_accuracy.training import train
from benchmarks.update_rules.table import GRID_TASK
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import BATCH_SIZE, GROUP_SIZE, Run

HERE = Path(__file__).parent
STRONGEST = HERE.parent / "update_rules" / "results" / "strongest.json"


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.time_to_accuracy", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="minutes, to see that it runs")
    parser.add_argument("--rules", nargs="+", choices=FULL.rules, help="fewer")
    parser.add_argument("--batches", type=int, help="of a run, instead of the plan's")
    parser.add_argument("--seeds", type=int, nargs="+", help="fewer")
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
        plan = replace(plan, rules={n: FULL.rules[n] for n in args.rules})
    if args.batches:
        plan = replace(plan, budget=replace(plan.budget, num_batches=args.batches))
    if args.seeds:
        plan = replace(plan, seeds=args.seeds)
    rates = {
        name: json.loads(STRONGEST.read_text())["rates"][GRID_TASK][name] for name in plan.rules
    }
    models = args.runs / "models"
    jobs = []
    for name, staleness, seed in plan.runs():
        run = Run(plan.task, at(name, staleness), rates[name], seed)
        variant = replace(plan.rules[name], max_staleness=staleness)
        make = partial(train, run, variant, models / plan.task, plan.budget)
        jobs.append(replace(run.job(variant, plan.budget, models), function=make))
    with workers(1) as executor:
        warm_start([plan.task], models, executor)
        table = run_all(jobs, args.runs / "runs", executor, "table")
    settings = {
        **asdict(plan.budget),
        "task": plan.task,
        "seeds": list(plan.seeds),
        "in_turns": [name for name in plan.in_turns if name in plan.rules],
        "batch_size": BATCH_SIZE,
        "group_size": GROUP_SIZE,
        "rules": {name: rule.what for name, rule in plan.rules.items()},
    }
    write_json(
        args.output / "time_to_accuracy.json",
        {
            "environment": environment_record(),
            "settings": settings,
            "rates": rates,
            **summarize(plan.rules, rates, table),
            "runs": table,
        },
    )
    plot(args.output / "time_to_accuracy.png", plan.rules, rates, table)


if __name__ == "__main__":
    main()
