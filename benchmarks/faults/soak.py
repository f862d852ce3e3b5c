"""Thousands of iterations in which runners die: memory, shared memory and open files."""

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.rllib.core.learner.learner import Learner
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.typing import ResultDict

from benchmarks.faults.training import make_config
from sfpo_rllib import GRPO, run
from sfpo_rllib.remote import values_of

SAMPLE_EVERY = 10
MB = 1e6


def soak(
    folder: Path, model: Path, *, iterations: int, kill_every: int, warm_up: int, seed: int
) -> dict[str, Any]:
    """Trains with 2 runners and a learner in processes of their own.

    Args:
        folder: Of the run, which is saved every 50 iterations.
        model: A transformers folder.
        iterations: To do.
        kill_every: Iterations between kills of a runner.
        warm_up: Iterations whose growth does not count.
        seed: Of the kills.

    Returns:
        `series`, a list a quantity; `slopes` of those after the warm-up in MB or pieces per 100
        iterations; `kills`, `runners_lost`, `seconds`.
    """
    rng = random.Random(seed)
    series: dict[str, list[float]] = {}
    kills = 0
    lost = 0.0

    def watch(algo: GRPO, result: ResultDict) -> None:
        nonlocal kills, lost
        lost += result["env_runners"]["num_env_runners_lost"]
        if algo.iteration % SAMPLE_EVERY == 0:
            for name, value in measure(algo).items():
                series.setdefault(name, []).append(value)
        if algo.iteration % kill_every == 0 and algo.iteration < iterations:
            pids = algo.env_runner_group.foreach_env_runner(_pid_of, local_env_runner=False)
            os.kill(rng.choice(pids), signal.SIGKILL)
            kills += 1

    start = time.monotonic()
    run(
        make_config(model, num_env_runners=2, num_learners=1),
        folder,
        iterations=iterations,
        checkpoint_every=50,
        on_result=watch,
    )
    return {
        "series": series,
        "slopes": slopes(series, warm_up),
        "kills": kills,
        "runners_lost": lost,
        "seconds": time.monotonic() - start,
    }


def measure(algo: GRPO) -> dict[str, float]:
    """What driver and learner hold, and the object store."""
    (learner,) = values_of(algo.learner_group.foreach_learner(_pid_of))
    total, free = (
        resources().get("object_store_memory", 0.0)
        for resources in (ray.cluster_resources, ray.available_resources)
    )
    return {
        "iteration": algo.iteration,
        "driver_rss_mb": _rss_mb(os.getpid()),
        "learner_rss_mb": _rss_mb(learner),
        "object_store_mb": (total - free) / MB,
        "driver_files": len(os.listdir("/proc/self/fd")),
        "learner_files": len(os.listdir(f"/proc/{learner}/fd")),
        "driver_threads": len(os.listdir("/proc/self/task")),
    }


def slopes(series: dict[str, list[float]], warm_up: int) -> dict[str, float]:
    """Least squares, per 100 iterations."""
    iterations = np.array(series["iteration"])
    counts = iterations > warm_up
    return {
        name: _slope(iterations[counts], np.array(values)[counts])
        for name, values in series.items()
        if name != "iteration"
    }


def _slope(iterations: np.ndarray, values: Sequence[float] | np.ndarray) -> float:
    return float(100 * np.polyfit(iterations, values, 1)[0])


def _pid_of(worker: EnvRunner | Learner) -> int:
    return os.getpid()


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB
