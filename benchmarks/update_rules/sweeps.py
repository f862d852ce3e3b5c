"""Sweeps on the arithmetic task, on the grid's seeds, each at one learning rate.

`python -m benchmarks.update_rules.sweeps k_alpha` makes results/k_alpha.json; so do the other names
in `SWEEPS`. Runs are shared with the main benchmark's folder, and resume.
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
from benchmarks.update_rules.rules_tried import MeanOfTrajectory, SlowFastMoments
from benchmarks.update_rules.table import FULL, GRID_TASK
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import Run
from benchmarks.update_rules.variants import BASELINE, VARIANTS, Variant
from sfpo_rllib.core import (
    Extrapolated,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateRule,
)


def _named(*rules: UpdateRule, minibatches: int = 1) -> dict[str, Variant]:
    variants = [Variant(rule, repr(rule), minibatches=minibatches) for rule in rules]
    return {variant.what.replace(" ", ""): variant for variant in variants}


@dataclass(frozen=True)
class Sweep:
    """Variants compared with the baseline at one learning rate.

    Attributes:
        variants: By name.
        lr: By default the baseline's best.
    """

    variants: dict[str, Variant]
    lr: float = 3e-4


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
        lr=FULL.rates[0],
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
}


def summarize(runs: Sequence[Result], names: Sequence[str]) -> dict[str, Any]:
    """For each variant its accuracy, costs to the baseline's best, and ratios to the baseline."""
    baseline = select(runs, variant=BASELINE)
    target = float(np.mean([best_accuracy(run) for run in baseline]))
    summary = {}
    for name in names:
        of_name = select(runs, variant=name)
        summary[name] = {**describe(of_name, target), "vs_baseline": compare(of_name, baseline)}
    return {"target": target, "variants": summary}


def main() -> None:
    """Runs what is missing of a sweep and writes its results."""
    parser = argparse.ArgumentParser(prog="benchmarks.update_rules.sweeps", description=__doc__)
    parser.add_argument("sweep", choices=list(SWEEPS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/update_rules"))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--finished", action="store_true", help="report these, run no other")
    args = parser.parse_args()
    folder, sweep = args.runs.resolve(), SWEEPS[args.sweep]
    jobs = {
        name: [
            Run(GRID_TASK, name, sweep.lr, seed).job(variant, FULL_BUDGET, folder / "models")
            for seed in FULL.grid_seeds
        ]
        for name, variant in {BASELINE: VARIANTS[BASELINE], **sweep.variants}.items()
    }
    if args.finished:
        jobs = {
            name: of_name
            for name, of_name in jobs.items()
            if all(load_finished(folder / "runs", job) for job in of_name)
        }
    with workers(args.workers) as executor:
        warm_start([GRID_TASK], folder / "models", executor)
        every_job = [job for of_name in jobs.values() for job in of_name]
        runs = run_all(every_job, folder / "runs", executor, args.sweep)
    summary = summarize(runs, list(jobs))
    content = {"environment": environment_record(), "lr": sweep.lr, **summary, "runs": runs}
    write_json(args.output / f"{args.sweep}.json", content)
    for name, entry in summary["variants"].items():
        ratio = entry["vs_baseline"]["rollouts_ratio"]["value"]
        print(f"{name:55} best {entry['best_accuracy']['value']:.3f}  rollouts ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
