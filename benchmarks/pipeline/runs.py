"""Training runs in turn, so many iterations of each: seconds an iteration, and what waited."""

import copy
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ray

from benchmarks.alternating import ratio_of
from benchmarks.faults.training import start_ray
from sfpo_rllib import GRPO, GRPOConfig
from sfpo_rllib.statistics import bootstrap_interval


@dataclass
class Contender:
    """A run to be timed.

    Attributes:
        config: Its config.
        in_advance: Iterations before those that are timed: until as many batches are under way as
            ever will be.
        slow_runner: Whether one of its runners, of a `SleepingEngine`, is slow.
    """

    config: GRPOConfig
    in_advance: int = 1
    slow_runner: bool = False

    def build(self, folder: Path) -> GRPO:
        """The algorithm."""
        config = self.config.copy(copy_frozen=False)
        if self.slow_runner:
            slow = {**config.engine_kwargs, "slow_marker": str(folder / "slow")}
            config.env_runners(engine_kwargs=slow)
        return config.build_algo()


def compare(
    contenders: Mapping[str, Contender], *, rounds: int, iterations: int, against: str
) -> dict[str, Any]:
    """Runs all in rounds, every other one the other way round, each for so many iterations.

    A run is stopped before the next one starts: one that samples ahead would do so meanwhile.

    Args:
        contenders: By name.
        rounds: How often each is run.
        iterations: That are timed in each.
        against: Name of the one that the others' ratios are to.

    Returns:
        `rounds`, `iterations`, and by name `runs`: median seconds an iteration with an interval,
        all of them, and how many times as fast as `against` it is.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    stages: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    start_ray()
    try:
        for number in range(rounds):
            for name in list(contenders) if number % 2 == 0 else list(contenders)[::-1]:
                took, of_stages = time_run(contenders[name], iterations)
                seconds[name].append(took)
                stages[name].append(of_stages)
                print(f"round {number}, {name}: {took:.3f} s an iteration", flush=True)
    finally:
        ray.shutdown()
    return {
        "rounds": rounds,
        "iterations": iterations,
        "runs": {
            name: {
                "seconds": median(seconds[name]),
                "seconds_interval": bootstrap_interval(seconds[name]),
                "all_seconds": seconds[name],
                "times_as_fast": ratio_of(seconds[against], seconds[name]),
                "stages": {
                    key: median(run[key] for run in stages[name]) for key in stages[name][0]
                },
            }
            for name in contenders
        },
    }


def time_run(contender: Contender, iterations: int) -> tuple[float, dict[str, float]]:
    """Seconds an iteration of one run, and the means of what its results say of waiting."""
    with tempfile.TemporaryDirectory() as folder:
        algo = contender.build(Path(folder))
        try:
            for _ in range(contender.in_advance):
                algo.train()
            start = time.perf_counter()
            results = [copy.deepcopy(algo.train()) for _ in range(iterations)]
            took = (time.perf_counter() - start) / iterations
        finally:
            algo.stop()
    return took, {
        "sample_s": float(median(result["timers"]["sample"] for result in results)),
        "learn_s": float(median(result["timers"]["learn"] for result in results)),
        "weights_age": float(results[-1]["env_runners"]["weights_age"]["mean"]),
    }
