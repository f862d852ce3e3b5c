"""Update rules on rollouts of older and older weights, each rule at its own best rate at each age.

`python -m benchmarks.staleness` makes results/staleness.json and its plot; `--smoke` is the same in
minutes, too short to learn anything from. Interrupted, it goes on where it was.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Job, Result, run_all, workers
from benchmarks.staleness.plot import plot
from benchmarks.update_rules.__main__ import SMOKE_BUDGET
from benchmarks.update_rules.analysis import (
    best_accuracy,
    best_rate,
    compare,
    describe,
    select,
    with_interval,
)
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import Budget, Run
from benchmarks.update_rules.variants import ALPHA, FAST_STEPS, VARIANTS, Variant
from sfpo_rllib.core import SlowFastESS

HERE = Path(__file__).parent
BUDGET = Budget(num_batches=80, eval_every=5, eval_samples=1024)
TASK = "arithmetic"
RULES: dict[str, Variant] = {
    **{name: VARIANTS[name] for name in ("single", "multi_epoch", "slow_fast")},
    "slow_fast_ess": Variant(
        SlowFastESS(FAST_STEPS, ALPHA), f"SFPO, K={FAST_STEPS}, alpha={ALPHA} sqrt(ESS)"
    ),
}


@dataclass(frozen=True)
class Protocol:
    """Which runs are made.

    Attributes:
        ages: Values of `max_staleness`, ascending, 0 first.
        rates: Learning rates, up to the best of those rules that take one step a batch from fresh
            rollouts: older ones bear no greater steps.
        grid_seeds: Of the choice of rates.
        table_seeds: Of what is reported; others.
    """

    ages: Sequence[int] = (0, 1, 2, 4, 8)
    rates: Sequence[float] = (7.5e-5, 1.5e-4, 3e-4)
    grid_seeds: Sequence[int] = (0,)
    table_seeds: Sequence[int] = (10, 11, 12)


SMOKE = Protocol(ages=(0, 2), rates=(3e-4,), grid_seeds=(0,), table_seeds=(10,))


def variant_name(rule: str, age: int) -> str:
    """Of a rule at an age; equal to the rule's where nothing is stale."""
    return f"{rule}-s{age}" if age else rule


def job(rule: str, age: int, lr: float, seed: int, budget: Budget, models: Path) -> Job:
    """One run."""
    variant = replace(RULES[rule], max_staleness=age)
    return Run(TASK, variant_name(rule, age), lr, seed).job(variant, budget, models)


def summarize(
    protocol: Protocol, rates: dict[str, float], table: Sequence[Result]
) -> list[dict[str, Any]]:
    """A row a rule and age: accuracy, stability, and what is lost against the rule at age 0."""
    fresh = select(table, variant="single", lr=rates["single"])
    target = float(np.mean([best_accuracy(run) for run in fresh]))
    rows = []
    for rule in RULES:
        at_zero = select(table, variant=rule, lr=rates[rule])
        for age in protocol.ages:
            name = variant_name(rule, age)
            runs = select(table, variant=name, lr=rates[name])
            lost = np.subtract(
                [best_accuracy(r) for r in runs], [best_accuracy(r) for r in at_zero]
            )
            rows.append(
                {
                    "rule": rule,
                    "max_staleness": age,
                    "lr": rates[name],
                    **describe(runs, target),
                    "vs_fresh_grpo": compare(runs, fresh),
                    "vs_own_fresh": with_interval(lost, np.mean),
                }
            )
    return rows


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.staleness", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="minutes, to see that it runs")
    parser.add_argument("--workers", type=int, default=1, help="each uses up to two cores")
    parser.add_argument("--runs", type=Path, default=None, help="finished runs and models")
    parser.add_argument("--output", type=Path, default=None, help="JSON and plot")
    args = parser.parse_args()
    folder = (args.runs or Path("runs") / ("staleness" + "_smoke" * args.smoke)).resolve()
    output = args.output or (folder if args.smoke else HERE / "results")
    protocol, budget = (SMOKE, SMOKE_BUDGET) if args.smoke else (Protocol(), BUDGET)
    models = folder / "models"

    with workers(args.workers) as executor:
        warm_start([TASK], models, executor)

        def make(runs: Sequence[tuple[str, int, float, int]], stage: str) -> list[Result]:
            jobs = [job(*run, budget, models) for run in runs]
            return run_all(jobs, folder / "runs", executor, stage)

        grid = make(
            [
                (rule, age, lr, seed)
                for age in protocol.ages
                for rule in RULES
                for lr in protocol.rates
                for seed in protocol.grid_seeds
            ],
            "rates",
        )
        names = [variant_name(rule, age) for rule in RULES for age in protocol.ages]
        chosen = {name: best_rate(grid, task=TASK, variant=name) for name in names}
        table = make(
            [
                (rule, age, chosen[variant_name(rule, age)], seed)
                for seed in protocol.table_seeds
                for age in protocol.ages
                for rule in RULES
            ],
            "table",
        )
    rows = summarize(protocol, chosen, table)
    write_json(
        output / "staleness.json",
        {
            "environment": environment_record(),
            "settings": {
                **vars(budget),
                **vars(protocol),
                "rules": {name: variant.what for name, variant in RULES.items()},
            },
            "rows": rows,
            "runs": [*grid, *table],
        },
    )
    plot(output / "staleness.png", rows)


if __name__ == "__main__":
    main()
