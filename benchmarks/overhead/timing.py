"""Seconds of an update by SFPO, against as many updates of one pass."""

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.alternating import alternate, ratio_of, time_once
from benchmarks.overhead.workload import Workload
from sfpo_rllib.core import Single, SlowFast
from sfpo_rllib.core.anchor import Anchor


def compare_seconds(workload: Workload, rule: SlowFast, pairs: int) -> dict[str, Any]:
    """Times an update by the rule and as many single passes, in turn.

    Args:
        workload: What is updated.
        rule: K fast passes and a slow one.
        pairs: How often.

    Returns:
        By clock, medians in seconds and the median of the pairs' ratios with its 95% interval.
    """
    passes = rule.fast_steps + 1

    def by_single_passes() -> None:
        for _ in range(passes):
            workload.update(Single())

    bodies = {"rule": lambda: workload.update(rule), "single_passes": by_single_passes}
    seconds = alternate(bodies, pairs, workload.synchronize)
    return {"passes": passes} | {
        clock: {
            "rule_s": median(by_name["rule"]),
            "single_passes_s": median(by_name["single_passes"]),
            **ratio_of(by_name["rule"], by_name["single_passes"]),
        }
        for clock, by_name in seconds.items()
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
        name: median(time_once(body, workload.synchronize)["wall"] for _ in range(repeats))
        for name, body in parts.items()
    }
