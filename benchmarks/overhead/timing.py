"""Seconds of an update by SFPO, against as many updates of one pass."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.common import bootstrap_interval
from benchmarks.overhead.workload import Workload
from sfpo_rllib.core import Single, SlowFast
from sfpo_rllib.core.anchor import Anchor

# This process's CPU time leaves out what other processes take of a busy machine.
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def compare_seconds(workload: Workload, rule: SlowFast, pairs: int) -> dict[str, Any]:
    """Times an update by the rule and as many single passes, in turn, first the one then the other.

    Args:
        workload: What is updated.
        rule: K fast passes and a slow one.
        pairs: How often.

    Returns:
        By clock, medians in seconds and the median of the pairs' ratios with its 95% interval.
    """
    passes = rule.fast_steps + 1

    def by_rule() -> None:
        workload.update(rule)

    def by_single_passes() -> None:
        for _ in range(passes):
            workload.update(Single())

    bodies = [by_rule, by_single_passes]
    for body in bodies:
        body()  # warm-up
    seconds: dict[Callable[[], None], list[dict[str, float]]] = {body: [] for body in bodies}
    for pair in range(pairs):
        for body in bodies if pair % 2 == 0 else bodies[::-1]:
            seconds[body].append(_seconds(workload, body))
    return {"passes": passes} | {
        clock: _comparison(*([timed[clock] for timed in seconds[body]] for body in bodies))
        for clock in CLOCKS
    }


def added_seconds(workload: Workload, alpha: float, repeats: int) -> dict[str, float]:
    """Median wall-clock seconds of what the rule adds to the passes, once an update."""
    anchor = Anchor(workload.parameters)
    parts: dict[str, Callable[[], object]] = {
        "copy_s": lambda: Anchor(workload.parameters),
        "measure_s": lambda: anchor.measure(alpha),
        "reposition_s": lambda: anchor.reposition(alpha),
    }
    return {
        name: median(_seconds(workload, body)["wall"] for _ in range(repeats))
        for name, body in parts.items()
    }


def _comparison(by_rule: list[float], by_single_passes: list[float]) -> dict[str, Any]:
    ratios = [rule / single for rule, single in zip(by_rule, by_single_passes, strict=True)]
    return {
        "rule_s": median(by_rule),
        "single_passes_s": median(by_single_passes),
        "ratio": median(ratios),
        "ratio_interval": bootstrap_interval(ratios),
        "ratios": ratios,
    }


def _seconds(workload: Workload, body: Callable[[], object]) -> dict[str, float]:
    """How long it takes, by each clock."""
    workload.synchronize()
    start = {name: clock() for name, clock in CLOCKS.items()}
    body()
    workload.synchronize()
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}
