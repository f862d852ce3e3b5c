"""Levers that others report, each beside its control: the same without it.

`python -m benchmarks.update_rules.levers` makes results/levers.json. Levers have learning rates of
their own, chosen task by task as in `benchmarks.update_rules.strongest`, whose rates its contenders
keep. Interrupted, it goes on where it was.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result, run_all, workers
from benchmarks.update_rules.__main__ import HERE
from benchmarks.update_rules.analysis import best_accuracy, best_rate, compare, describe, select
from benchmarks.update_rules.baselines import BUDGET, name_of
from benchmarks.update_rules.strongest import (
    ALPHA,
    CONTENDERS,
    REFERENCE,
    at_rate_of_sums,
    table_runs,
)
from benchmarks.update_rules.table import GRID_TASK, Protocol, run_grid
from benchmarks.update_rules.tasks import warm_start
from benchmarks.update_rules.training import Run
from benchmarks.update_rules.variants import Variant
from sfpo_rllib import Curriculum
from sfpo_rllib.core import GXPO, MultiEpoch, SlowFast, SlowFastGated

FEW_SUMS = "few_sums"
STEPS_OF_TEN_BATCHES = 10 * 4 * 4  # of 4 passes in 4 mini-batches


def _curriculum(name: str) -> Variant:
    """A contender whose solved and hopeless problems are skipped."""
    plain = CONTENDERS[name]
    return Variant(
        plain.rule,
        f"{plain.label}, curriculum",
        minibatches=plain.minibatches,
        settings={"curriculum": Curriculum()},
    )


CONTROLS: dict[str, Variant] = {
    **{name: CONTENDERS[name] for name in (name_of(1, 1), name_of(4, 4), REFERENCE, "sfpo-7x1")},
    name_of(8, 1): Variant(MultiEpoch(8), "GRPO, 8 x 1"),
    "sfpo-2x1": Variant(SlowFast(2, ALPHA), "SFPO, K=2, alpha=0.3"),
}
LEVERS: dict[str, tuple[Variant, str]] = {
    **{
        f"gxpo-{per}-{moments}": (
            Variant(
                GXPO(10, ALPHA, per=per, moments=moments),
                f"GXPO, K=10, a {per}, moments {'kept' if moments == 'keep' else 'rolled back'}",
            ),
            "sfpo-2x1",
        )
        for per, moments in (
            ("coordinate", "roll_back"),
            ("coordinate", "keep"),
            ("tensor", "keep"),
        )
    },
    "gated": (
        Variant(
            SlowFastGated(7, ALPHA, max_head_grad_growth=1.1),
            "SFPO, K=7, ends where the head's gradient is 1.1 times the first",
        ),
        "sfpo-7x1",
    ),
    "gated-epochs": (
        Variant(
            SlowFastGated(7, 1.0, max_head_grad_growth=1.1),
            "GRPO, 8 x 1, ends where the head's gradient is 1.1 times the first",
        ),
        name_of(8, 1),
    ),
    "cosine": (
        Variant(
            SlowFastGated(7, ALPHA, max_head_grad_growth=None, min_cosine=0.3),
            "SFPO, K=7, given up after 3 batches of a cosine below 0.3",
        ),
        "sfpo-7x1",
    ),
    "trigger": (
        Variant(
            SlowFast(7, ALPHA),
            "SFPO, K=7, trigger w=10, Z=1",
            settings={"entropy_z_threshold": 1.0, "entropy_window": 10},
        ),
        "sfpo-7x1",
    ),
    "grpo-warm-up": (
        Variant(
            MultiEpoch(4),
            "GRPO, 4 x 4, warm-up over 160 steps",
            minibatches=4,
            warm_up_steps=STEPS_OF_TEN_BATCHES,
        ),
        name_of(4, 4),
    ),
}
# Where problems come again: else there is nothing to skip. At the rates of the same without it.
CURRICULA: dict[str, tuple[Variant, str]] = {
    f"{name}-curriculum": (_curriculum(name), name)
    for name in (name_of(1, 1), REFERENCE, "sfpo_replay-8x4")
}
PROTOCOL = Protocol(
    variants=(*(name for name in CONTROLS if name not in CONTENDERS), *LEVERS),
    tasks=(GRID_TASK, "spell_backward"),
    rates=(1.5e-4, 3e-4),
    grid_seeds=(0,),
    table_seeds=(10, 11, 12),
    at_baseline_rate=(),
    conservative=(),
    max_extra_rates=2,
)


def summarize(
    table: Sequence[Result],
    task: str,
    levers: Mapping[str, tuple[Variant, str]],
    rates: Mapping[str, Mapping[str, float]],
) -> list[dict[str, Any]]:
    """A row a lever of a task, beside its control and the strongest GRPO."""
    of_task = {
        name: select(table, task=task, variant=name, lr=rates[task][name])
        for name in {*levers, *(control for _, control in levers.values()), REFERENCE}
    }
    reference = of_task[REFERENCE]
    target = float(np.mean([best_accuracy(run) for run in reference]))
    return [
        {
            "name": name,
            "label": variant.label,
            "what": variant.what,
            "passes": variant.passes,
            "lr": rates[task][name],
            "at_rate_of_sums": at_rate_of_sums(table, task, name, rates),
            "control": control,
            "control_label": {**CONTENDERS, **CONTROLS}[control].label,
            "control_lr": rates[task][control],
            **describe(of_task[name], target),
            "control_best_accuracy": describe(of_task[control], target)["best_accuracy"],
            "vs_control": compare(of_task[name], of_task[control]),
            "vs_reference": compare(of_task[name], reference),
        }
        for name, (variant, control) in levers.items()
    ]


def main() -> None:
    """Runs what is missing and writes the results."""
    parser = argparse.ArgumentParser(prog="benchmarks.update_rules.levers", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/levers"))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    args = parser.parse_args()
    folder = args.runs.resolve()
    variants = {
        **CONTENDERS,
        **CONTROLS,
        **{name: variant for name, (variant, _) in {**LEVERS, **CURRICULA}.items()},
    }
    rates: dict[str, dict[str, float]] = json.loads((HERE / "results/strongest.json").read_text())[
        "rates"
    ]
    with workers(args.workers) as executor:
        warm_start([*PROTOCOL.tasks, FEW_SUMS], folder / "models", executor)

        def run_stage(runs: Sequence[Run], stage: str) -> list[Result]:
            jobs = [run.job(variants[run.variant], BUDGET, folder / "models") for run in runs]
            return run_all(jobs, folder / "runs", executor, stage)

        def run_table(task: str, names: Sequence[str]) -> list[Result]:
            return run_stage(table_runs(task, names, rates, PROTOCOL.table_seeds), task)

        grid: list[Result] = []
        for task in PROTOCOL.tasks:
            grid += run_grid(replace(PROTOCOL, tasks=(task,)), run_stage, variants)
            for name in PROTOCOL.variants:
                rates[task][name] = best_rate(grid, task=task, variant=name)
        rates[FEW_SUMS] = rates[GRID_TASK] | {
            name: rates[GRID_TASK][control] for name, (_, control) in CURRICULA.items()
        }
        print("learning rates:", rates, flush=True)
        plain = [control for _, control in CURRICULA.values()]
        tables = {
            **{task: run_table(task, [*CONTROLS, *LEVERS]) for task in PROTOCOL.tasks},
            FEW_SUMS: run_table(FEW_SUMS, [*plain, *CURRICULA]),
        }
    tasks = {
        task: summarize(runs, task, CURRICULA if task == FEW_SUMS else LEVERS, rates)
        for task, runs in tables.items()
    }
    write_json(
        args.output / "levers.json",
        {
            "environment": environment_record(),
            "settings": {**vars(BUDGET), **vars(PROTOCOL), "reference": REFERENCE},
            "rates": rates,
            "tasks": tasks,
            "runs": [*grid, *(run for runs in tables.values() for run in runs)],
        },
    )
    for task, rows in tasks.items():
        for row in rows:
            saved = {
                other: f"{row[f'vs_{other}']['rollouts_ratio']['value']:.2f}x"
                for other in ("control", "reference")
            }
            print(f"{task:15} {row['label']:70} {row['lr']:g} {saved}")


if __name__ == "__main__":
    main()
