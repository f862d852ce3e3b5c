"""Sweeps on the arithmetic task, on the grid's seeds.

`python -m benchmarks.update_rules.sweeps k_alpha` makes results/k_alpha.json; so do the other names
in `SWEEPS`. Runs resume, and are shared with the folder of the main benchmark. Those from passes_1
on look as often as `baselines`, and share its folder (`--runs runs/strongest`).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, load_finished, run_all, workers
from benchmarks.update_rules.__main__ import FULL_BUDGET, HERE
from benchmarks.update_rules.analysis import best_accuracy, compare, describe, select
from benchmarks.update_rules.baselines import BUDGET
from benchmarks.update_rules.rules_tried import MeanOfTrajectory, SlowFastMoments
from benchmarks.update_rules.table import FULL, GRID_TASK
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import Budget, Run
from benchmarks.update_rules.variants import BASELINE, VARIANTS, Variant
from sfpo_rllib.core import (
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateRule,
)


def _named(*rules: UpdateRule, **settings: Any) -> dict[str, Variant]:
    variants = [Variant(rule, repr(rule), **settings) for rule in rules]
    return {variant.what.replace(" ", ""): variant for variant in variants}


def _in_minibatches(*counts: int, rules: Sequence[UpdateRule]) -> dict[str, Variant]:
    """Each of the rules with so many optimizer steps a pass."""
    return {name: v for m in counts for name, v in _named(*rules, minibatches=m).items()}


BASELINE_LR = 3e-4  # the baseline's best


@dataclass(frozen=True)
class Sweep:
    """Variants compared with the baseline at its best rate.

    Attributes:
        variants: By name.
        rates: The learning rates of each of them.
        budget: Of all runs.
    """

    variants: dict[str, Variant]
    rates: Sequence[float] = (BASELINE_LR,)
    budget: Budget = FULL_BUDGET


SWEEPS = {
    "k_alpha": Sweep(
        _named(
            *(SlowFast(k, a) for k in (3, 7) for a in (0.2, 0.3, 0.5)),
            *(SlowFast(11, a) for a in (0.3, 0.5)),
            SlowFast(1, 0.5),
            SlowFast(7, 0.8),
        )
    ),
    "conservative": Sweep(
        _named(
            *(SlowFast(k, a) for a in (0.5, 0.8) for k in (7, 11, 15)),
            SlowFast(23, 0.8),
            *(SlowFastReplay(3, 0.8, m) for m in (6, 12)),
            *(MultiEpoch(k + 1) for k in (7, 11, 15)),
        ),
        rates=FULL.rates[:1],
    ),
    "tried": Sweep(
        _named(
            *(SlowFastMoments(3, 0.5, m) for m in ("rewind", "reset")),
            MeanOfTrajectory(7),
            Extrapolated(4, 0.8),
            *(SlowFastReplay(3, 0.3, m) for m in (3, 12)),
        )
        | _named(Single(), SlowFast(3, 0.8), SlowFast(3, 0.3), minibatches=4)
    ),
    # At equal passes, fast and slow passes cut alike, otherwise, and over a part. GRPO itself is in
    # `benchmarks.update_rules.baselines`.
    "passes_1": Sweep(
        _in_minibatches(4, 8, 16, rules=[Lookahead(1, 0.3)]), rates=FULL.rates, budget=BUDGET
    ),
    "passes_2": Sweep(
        _in_minibatches(4, 8, rules=[SlowFast(1, 0.3), Lookahead(2, 0.3)])
        | _named(
            *(SlowFast(1, 0.3, fast_minibatches=m, slow_minibatches=1) for m in (4, 8, 16)),
            SlowFast(1, 0.3, slow_minibatches=8),
            SlowFast(2, 0.3, fast_minibatches=8, fast_fraction=0.5),
        ),
        rates=FULL.rates,
        budget=BUDGET,
    ),
    "passes_4": Sweep(
        _in_minibatches(
            4,
            rules=[
                SlowFast(3, 0.3),
                SlowFast(3, 0.3, slow_minibatches=1),
                Lookahead(4, 0.3),
                SlowFastReplay(1, 0.3, 3),
                SlowFastReplay(1, 1.0, 3),
            ],
        )
        | _named(
            SlowFast(3, 0.3),
            SlowFast(3, 0.3, fast_minibatches=8),
            SlowFast(6, 0.3, fast_minibatches=8, fast_fraction=0.5),
        ),
        rates=FULL.rates,
        budget=BUDGET,
    ),
    # The paper's own form: plain gradient steps.
    "sgd": Sweep(
        _named(Single(), SlowFast(3, 0.8), SlowFast(7, 0.3), optimizer="sgd"),
        rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        budget=BUDGET,
    ),
    "passes_8": Sweep(
        _in_minibatches(
            4,
            rules=[
                MultiEpoch(8),
                SlowFast(7, 0.3, slow_minibatches=1),
                Lookahead(8, 0.3),
                SlowFastReplay(2, 0.3, 6),
                SlowFastReplay(2, 1.0, 6),
            ],
        )
        | _named(SlowFast(7, 0.3), Lookahead(8, 0.3), SlowFastReplay(2, 0.3, 6)),
        rates=FULL.rates,
        budget=BUDGET,
    ),
}


def summarize(
    runs: Sequence[Result], variants: dict[str, Variant], baseline_lr: float
) -> dict[str, Any]:
    """For each variant and rate its accuracy, its costs, and their ratios to the baseline's.

    Args:
        runs: All runs, with those of the baseline.
        variants: By name.
        baseline_lr: The rate at which the baseline is what others are compared with.
    """
    baseline = select(runs, variant=BASELINE, lr=baseline_lr)
    target = float(np.mean([best_accuracy(run) for run in baseline]))
    summary: dict[str, Any] = {}
    for name, variant in variants.items():
        for lr in sorted({run["run"]["lr"] for run in select(runs, variant=name)}):
            at_rate = select(runs, variant=name, lr=lr)
            summary.setdefault(name, {})[f"{lr:g}"] = {
                **describe(at_rate, target),
                "vs_baseline": compare(at_rate, baseline),
                "passes": variant.passes,
            }
    return {"baseline_lr": baseline_lr, "target": target, "variants": summary}


def main() -> None:
    """Runs what is missing of a sweep and writes its results."""
    parser = argparse.ArgumentParser(prog="benchmarks.update_rules.sweeps", description=__doc__)
    parser.add_argument("sweep", choices=list(SWEEPS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", help="instead of the sweep's")
    parser.add_argument("--runs", type=Path, default=Path("runs/update_rules"))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--finished", action="store_true", help="report these, run no other")
    args = parser.parse_args()
    folder, sweep = args.runs.resolve(), SWEEPS[args.sweep]
    rates = args.rates or sweep.rates
    # At one rate the baseline has that one, too.
    baseline_lr = rates[0] if len(rates) == 1 else BASELINE_LR
    variants = {BASELINE: VARIANTS[BASELINE], **sweep.variants}
    jobs = {
        (name, lr): [
            Run(GRID_TASK, name, lr, seed).job(variant, sweep.budget, folder / "models")
            for seed in FULL.grid_seeds
        ]
        for name, variant in variants.items()
        for lr in ((baseline_lr,) if name == BASELINE else rates)
    }
    if args.finished:
        jobs = {
            key: of_key
            for key, of_key in jobs.items()
            if all(load_finished(folder / "runs", job) for job in of_key)
        }
    with workers(args.workers) as executor:
        warm_start([GRID_TASK], folder / "models", executor)
        every_job = [job for of_key in jobs.values() for job in of_key]
        runs = run_all(every_job, folder / "runs", executor, args.sweep)
    summary = summarize(runs, variants, baseline_lr)
    content = {"environment": environment_record(), **summary, "runs": runs}
    write_json(args.output / f"{args.sweep}.json", content)
    for name, by_rate in summary["variants"].items():
        for lr, entry in by_rate.items():
            ratio, best = entry["vs_baseline"]["rollouts_ratio"], entry["best_accuracy"]
            print(
                f"{name:60} lr {lr:8} passes {entry['passes']:g}  best {best['value']:.3f}  "
                f"rollouts ratio {ratio['value']:.2f}"
            )


if __name__ == "__main__":
    main()
