"""The main comparison: rates chosen on a grid, then every variant on every task from new seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.pool import Result
from benchmarks.update_rules.analysis import (
    best_accuracy,
    best_rate,
    compare,
    describe,
    select,
)
from benchmarks.update_rules.training import Run
from benchmarks.update_rules.variants import BASELINE, VARIANTS, Variant

GRID_TASK = "arithmetic"


@dataclass(frozen=True)
class Protocol:
    """Which runs are made.

    Attributes:
        variants: Names.
        tasks: Names; the grid's is `GRID_TASK`.
        rates: The common learning rates, ascending. Where a variant's best is at an edge, it gets
            the next rate too.
        grid_seeds: Of the grid.
        table_seeds: Of the table; others.
        at_baseline_rate: Variants that are also run at the baseline's best rate.
        conservative: Variants that are also run at the smallest common rate, the paper's way to
            set it for all; on the grid's task.
        max_extra_rates: How far beyond the common rates a variant may go.
    """

    variants: Sequence[str]
    tasks: Sequence[str]
    rates: Sequence[float]
    grid_seeds: Sequence[int]
    table_seeds: Sequence[int]
    at_baseline_rate: Sequence[str]
    conservative: Sequence[str]
    max_extra_rates: int = 3


FULL = Protocol(
    variants=tuple(VARIANTS),
    tasks=("arithmetic", "spell_backward"),
    rates=(7.5e-5, 1.5e-4, 3e-4, 6e-4),
    grid_seeds=(0, 1),
    table_seeds=(10, 11, 12, 13, 14),
    at_baseline_rate=("multi_epoch", "slow_fast", "slow_fast_replay"),
    conservative=("single", "multi_epoch", "slow_fast"),
)
SMOKE = Protocol(
    variants=("single", "slow_fast", "slow_fast_trigger", "slow_fast_replay"),
    tasks=("arithmetic", "spell_backward"),
    rates=(3e-4,),
    grid_seeds=(0,),
    table_seeds=(10,),
    at_baseline_rate=("slow_fast",),
    conservative=("single",),
    max_extra_rates=0,
)


RunStage = Callable[[Sequence[Run], str], list[Result]]


def run_grid(
    protocol: Protocol, run_stage: RunStage, variants: Mapping[str, Variant] = VARIANTS
) -> list[Result]:
    """Runs the grid, and further rates of variants whose best is at an edge.

    Args:
        protocol: Which runs.
        run_stage: Makes runs; told a stage's name.
        variants: Those named in the protocol.
    """
    rates = {
        name: list(protocol.rates)
        for name in protocol.variants
        if not (variants[name].like or variants[name].conservative)
    }
    for extra in range(protocol.max_extra_rates + 1):
        results = run_stage(
            [
                Run(GRID_TASK, name, lr, seed)
                for seed in protocol.grid_seeds
                for name in rates
                for lr in rates[name]
            ],
            "grid",
        )
        at_edge = {
            name: best
            for name in rates
            if (best := best_rate(results, task=GRID_TASK, variant=name))
            in (rates[name][0], rates[name][-1])
        }
        if not at_edge or extra == protocol.max_extra_rates:
            break
        for name, best in at_edge.items():
            if best == rates[name][0]:
                rates[name].insert(0, best / 2)
            else:
                rates[name].append(best * 2)
    return results


def chosen_rates(grid: Sequence[Result], protocol: Protocol) -> dict[str, float]:
    """Each variant's best learning rate."""
    return {
        name: protocol.rates[0]
        if VARIANTS[name].conservative
        else best_rate(grid, task=GRID_TASK, variant=VARIANTS[name].like or name)
        for name in protocol.variants
    }


def run_table(protocol: Protocol, rates: dict[str, float], run_stage: RunStage) -> list[Result]:
    """Runs every variant on every task at its own rate, and some at others too."""
    return run_stage(
        [
            Run(task, name, lr, seed)
            for seed in protocol.table_seeds
            for task in protocol.tasks
            for name in protocol.variants
            for lr in _table_rates(protocol, rates, task, name)
        ],
        "table",
    )


def _table_rates(
    protocol: Protocol, rates: dict[str, float], task: str, name: str
) -> Iterator[float]:
    if VARIANTS[name].conservative and task != GRID_TASK:
        return
    chosen = [rates[name]]
    if name in protocol.at_baseline_rate:
        chosen.append(rates[BASELINE])
    if task == GRID_TASK and name in protocol.conservative:
        chosen.append(protocol.rates[0])
    yield from dict.fromkeys(chosen)  # each once


def summarize(
    grid: Sequence[Result], table: Sequence[Result], rates: dict[str, float], protocol: Protocol
) -> dict[str, Any]:
    """All that is reported.

    Returns:
        `rates`: each variant's own. `grid`: for each variant and rate, accuracy and comparison
        with the baseline at the same rate (grid seeds). `table`: for each task, variant and rate
        (table seeds), the description and two comparisons, with the baseline at its own best rate
        (`vs_best`) and, where it was run there, at the same rate (`vs_same_rate`).
    """
    summary: dict[str, Any] = {"rates": rates, "grid": {}, "table": {}}
    for name, lr in _variants_and_rates(grid):
        runs = select(grid, variant=name, lr=lr)
        entry: dict[str, Any] = {
            "best_accuracy": float(np.mean([best_accuracy(run) for run in runs]))
        }
        baseline = select(grid, variant=BASELINE, lr=lr)
        if len(baseline) == len(runs):
            entry["vs_same_rate"] = compare(runs, baseline)
        summary["grid"].setdefault(name, {})[f"{lr:g}"] = entry
    for task in protocol.tasks:
        of_task = select(table, task=task)
        best = select(of_task, variant=BASELINE, lr=rates[BASELINE])
        target = float(np.mean([best_accuracy(run) for run in best]))
        rows = summary["table"].setdefault(task, {"target": target, "variants": {}})["variants"]
        for name, lr in _variants_and_rates(of_task):
            runs = select(of_task, variant=name, lr=lr)
            entry = {**describe(runs, target), "vs_best": compare(runs, best)}
            baseline = select(of_task, variant=BASELINE, lr=lr)
            if len(baseline) == len(runs):
                entry["vs_same_rate"] = compare(runs, baseline)
            rows.setdefault(name, {})[f"{lr:g}"] = entry
    return summary


def _variants_and_rates(results: Sequence[Result]) -> list[tuple[str, float]]:
    pairs = {(r["run"]["variant"], r["run"]["lr"]) for r in results}
    order = list(VARIANTS)
    return sorted(pairs, key=lambda pair: (order.index(pair[0]), pair[1]))
