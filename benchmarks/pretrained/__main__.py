"""GRPO against SFPO on SmolLM2-135M-Instruct and short word problems.

`python -m benchmarks.pretrained` makes results/pretrained.json and its plot; `--smoke` trains for
one batch. The weights come from the Python package index (93 MB). Interrupted, it goes on where it
was: a finished run is a file. On a GPU `--workers 8` shares it, which makes seconds worthless, but
not rollouts and passes. Of several settings of GRPO the one that is the strongest where rates are
chosen is reported, and the one of one step a batch.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, run_all, workers
from benchmarks.pretrained import problems
from benchmarks.pretrained.plot import plot
from benchmarks.pretrained.rules import DEFAULT_RULES, ONE_STEP, RULES
from benchmarks.pretrained.training import BATCH_SIZE, GROUP_SIZE, MAX_TOKENS, job
from benchmarks.time_to_accuracy.rules import is_plain
from benchmarks.update_rules.analysis import (
    best_accuracy,
    best_rate,
    compare,
    describe,
    select,
    strongest,
)
from benchmarks.update_rules.training import Budget, Run
from tuned_examples.smollm2_weights import smollm2_folder

HERE = Path(__file__).parent
TASK = "word_problems"
RATES = (3e-6, 1e-5, 3e-5)
GRID_SEEDS, TABLE_SEEDS = (0,), (10, 11)
FULL_BUDGET = Budget(num_batches=20, eval_every=4, eval_samples=512)
SMOKE_BUDGET = Budget(num_batches=1, eval_every=1, eval_samples=64)


def summarize(
    names: Sequence[str], reference: str, rates: dict[str, float], table: Sequence[Result]
) -> dict[str, Any]:
    """A row a rule: accuracy, costs, and the comparison with the strongest GRPO."""
    runs = {name: select(table, variant=name, lr=rates[name]) for name in names}
    target = float(np.mean([best_accuracy(run) for run in runs[reference]]))
    rows = [
        {
            "rule": name,
            "label": RULES[name].label,
            "lr": rates[name],
            "passes": RULES[name].passes,
            **describe(of_rule, target),
            "vs_strongest": compare(of_rule, runs[reference]),
            "start_accuracy": float(np.mean([r["curve"]["accuracy"][0] for r in of_rule])),
            **{
                f"{stage}_s": float(np.median([r["stages"][stage] for r in of_rule]))
                for stage in ("sample", "learn")
            },
        }
        for name, of_rule in runs.items()
    ]
    return {"strongest": reference, "target": target, "rates": rates, "rows": rows}


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.pretrained", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one batch, to see that it runs")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=DEFAULT_RULES)
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=TABLE_SEEDS, help="of the table")
    parser.add_argument("--batches", type=int, help="of a run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=None, help="finished runs")
    parser.add_argument("--output", type=Path, default=None, help="JSON and plot")
    args = parser.parse_args()
    folder = (args.runs or Path("runs") / ("pretrained" + "_smoke" * args.smoke)).resolve()
    output = args.output or (folder if args.smoke else HERE / "results")
    names, rates = tuple(args.rules), tuple(args.rates)
    table_seeds = tuple(args.seeds)
    budget = FULL_BUDGET
    if args.smoke:
        names, rates, budget, table_seeds = (
            (ONE_STEP, "sfpo-1x16+1"),
            RATES[:1],
            SMOKE_BUDGET,
            (10,),
        )
    if args.batches:
        budget = Budget(args.batches, min(budget.eval_every, args.batches), budget.eval_samples)
    if not any(is_plain(RULES[name]) for name in names):
        parser.error(f"--rules={' '.join(names)}: one must be GRPO, to compare with")
    model, files = str(smollm2_folder()), problems.write(folder / "problems")

    with workers(args.workers) as executor:

        def make(runs: Sequence[Run], stage: str) -> list[Result]:
            jobs = [job(run, RULES[run.variant], model, files, budget) for run in runs]
            return run_all(jobs, folder / "runs", executor, stage)

        grid: list[Result] = []
        if len(rates) > 1:
            grid = make(
                [Run(TASK, n, lr, seed) for seed in GRID_SEEDS for n in names for lr in rates],
                "rates",
            )
            chosen = {name: best_rate(grid, task=TASK, variant=name) for name in names}
        else:
            chosen = dict.fromkeys(names, rates[0])
        # By other seeds than those that are reported, where there are any.
        plain = {name: chosen[name] for name in names if is_plain(RULES[name])}
        reference = strongest(grid, plain) if grid else next(iter(plain))
        weaker = plain.keys() - {reference, ONE_STEP}
        reported = [name for name in names if name not in weaker]
        table = make(
            [Run(TASK, name, chosen[name], seed) for seed in table_seeds for name in reported],
            "table",
        )
    rules = {name: RULES[name] for name in reported}
    settings = {
        **asdict(budget),
        "batch_size": BATCH_SIZE,
        "group_size": GROUP_SIZE,
        "max_tokens": MAX_TOKENS,
        "workers": args.workers,
        "rates": rates,
        "grid_seeds": GRID_SEEDS,
        "table_seeds": table_seeds,
        "rules": {name: RULES[name].what for name in names},
    }
    write_json(
        output / "pretrained.json",
        {
            "environment": environment_record(),
            "settings": settings,
            **summarize(reported, reference, chosen, table),
            "runs": [*grid, *table],
        },
    )
    plot(output / "pretrained.png", rules, table)


if __name__ == "__main__":
    main()
