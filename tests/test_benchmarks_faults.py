"""The benchmark of faults: what it concludes from what it measures."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from benchmarks.faults.soak import measure, slopes
from benchmarks.faults.training import digest

RESULTS = Path(__file__).parents[1] / "benchmarks" / "faults" / "results"


def test_slopes_are_per_100_iterations_after_the_warm_up() -> None:
    iterations = list(range(10, 510, 10))
    series = {
        "iteration": [float(i) for i in iterations],
        "grows": [1000.0 if i <= 100 else 5 + 0.02 * i for i in iterations],
        "flat": [3.0] * len(iterations),
    }
    found = slopes(series, warm_up=100)
    assert found["grows"] == pytest.approx(2.0)
    assert found["flat"] == pytest.approx(0.0, abs=1e-9)
    assert found.keys() == {"grows", "flat"}


def test_a_digest_tells_where_an_algorithm_stands(
    make_config: Callable[..., Any], running: Callable[[Any], Any]
) -> None:
    one, other = (running(make_config().build_algo()) for _ in range(2))
    assert digest(one) == digest(other)
    one.train()
    differing = {name for name, value in digest(one).items() if digest(other)[name] != value}
    assert differing >= {"iteration", "cursor", "rollouts", "rl_module", "optimizer"}
    other.train()
    assert digest(one) == digest(other)
    measured = measure(one)
    assert measured["driver_rss_mb"] == measured["learner_rss_mb"] > 50  # one process
    assert measured["driver_files"] == pytest.approx(len(os.listdir("/proc/self/fd")), abs=5)


def committed(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def test_every_committed_kill_ended_as_the_undisturbed_run() -> None:
    driver = committed("driver")
    assert driver["equal"] == len(driver["kills"]) == 20
    assert all(kill["rows_once_each"] for kill in driver["kills"])
    runners = committed("runners")
    assert runners["equal"] and len(runners["kills"]) == 10


def test_the_committed_soak_is_flat() -> None:
    soak = committed("soak")
    assert soak["iterations"] >= 2000 and soak["kills"] >= 39
    assert max(soak["slopes"][f"{process}_rss_mb"] for process in ("driver", "learner")) < 1
