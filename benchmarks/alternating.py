"""Times things in turn in one run: what disturbs a shared machine disturbs all of them."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from sfpo_rllib.statistics import bootstrap_interval

Body = Callable[[], object]
# This process's CPU time leaves out what other processes take of a busy machine.
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def alternate(
    bodies: Mapping[str, Body], rounds: int, synchronize: Body = lambda: None
) -> dict[str, dict[str, list[float]]]:
    """Runs all bodies once for warming up, then in rounds, every other one the other way round.

    Args:
        bodies: By name.
        rounds: How often each is timed.
        synchronize: Waits for the device.

    Returns:
        By clock and name, seconds, one a round.
    """
    for body in bodies.values():
        body()
    seconds: dict[str, dict[str, list[float]]] = {c: {n: [] for n in bodies} for c in CLOCKS}
    for number in range(rounds):
        for name in list(bodies) if number % 2 == 0 else list(bodies)[::-1]:
            for clock, value in time_once(bodies[name], synchronize).items():
                seconds[clock][name].append(value)
    return seconds


def time_once(body: Body, synchronize: Body = lambda: None) -> dict[str, float]:
    """Seconds that the body takes, by clock."""
    synchronize()
    start = {name: clock() for name, clock in CLOCKS.items()}
    body()
    synchronize()
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}


def ratio_of(numerator: list[float], denominator: list[float]) -> dict[str, Any]:
    """Median of the rounds' ratios, its 95% interval, and the ratios."""
    ratios = [above / below for above, below in zip(numerator, denominator, strict=True)]
    return {
        "ratio": median(ratios),
        "ratio_interval": bootstrap_interval(ratios),
        "ratios": ratios,
    }
