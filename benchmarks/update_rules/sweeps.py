"""Sweeps on the arithmetic task, on the grid's seeds, at the baseline's best learning rate.

`python -m benchmarks.update_rules.sweeps k_alpha` makes results/k_alpha.json; so do the other names
in `SWEEPS`. Runs are shared with the main benchmark's folder, and resume.
"""

import argparse
from collections.abc import Sequence
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


SWEEPS: dict[str, dict[str, Variant]] = {
    "k_alpha": _named(
        *(SlowFast(k, a) for k in (3, 7, 11) for a in (0.3, 0.2, 0.5)),
        *(SlowFast(1, a) for a in (0.3, 0.5, 0.8)),
        *(SlowFast(k, a) for a in (0.8, 1.0) for k in (3, 7, 11)),
    ),
    "replay": _named(
        *(SlowFastReplay(k, a, m) for m in (3, 6, 12) for k in (3, 7) for a in (0.2, 0.3, 0.5)),
    ),
    "tried": _named(
        *(Extrapolated(k, a) for k in (4, 8) for a in (0.3, 0.5, 0.8)),
        *(SlowFastMoments(k, 0.5, m) for k in (3, 7) for m in ("rewind", "reset")),
        *(MeanOfTrajectory(k) for k in (3, 7, 11)),
        *(MultiEpoch(k) for k in (2, 4, 8, 12)),
    )
    | _named(Single(), SlowFast(3, 0.8), SlowFast(3, 0.3), minibatches=4),
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
    parser.add_argument("--lr", type=float, default=3e-4, help="the baseline's best")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/update_rules"))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--finished", action="store_true", help="report these, run no other")
    args = parser.parse_args()
    folder = args.runs.resolve()
    jobs = {
        name: [
            Run(GRID_TASK, name, args.lr, seed).job(variant, FULL_BUDGET, folder / "models")
            for seed in FULL.grid_seeds
        ]
        for name, variant in {BASELINE: VARIANTS[BASELINE], **SWEEPS[args.sweep]}.items()
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
    content = {"environment": environment_record(), "lr": args.lr, **summary, "runs": runs}
    write_json(args.output / f"{args.sweep}.json", content)
    for name, entry in summary["variants"].items():
        ratio = entry["vs_baseline"]["rollouts_ratio"]["value"]
        print(f"{name:55} best {entry['best_accuracy']['value']:.3f}  rollouts ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
