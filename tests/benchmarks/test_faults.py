"""The benchmark of faults: what it concludes from what it measures."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

pytest.importorskip("ray")

from probes import ECHO

from benchmarks.faults.soak import measure, slopes
from benchmarks.faults.training import digest

RESULTS = ROOT / "benchmarks" / "faults" / "results"


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
    one, other = (running(make_config(env=ECHO).build_algo()) for _ in range(2))
    assert digest(one) == digest(other)
    one.train()
    differing = {name for name, value in digest(one).items() if digest(other)[name] != value}
    assert differing >= {"iteration", "cursor", "rollouts", "rl_module", "optimizer"}
    other.train()
    assert digest(one) == digest(other)
    measured = measure(one)
    assert measured["driver_rss_mb"] == measured["learner_rss_mb"] > 50  # one process
    assert measured["driver_files"] == pytest.approx(len(os.listdir("/proc/self/fd")), abs=5)


def check_runners(content: dict[str, Any]) -> None:
    assert content["equal"] and len(content["kills"]) == 10


def check_driver(content: dict[str, Any]) -> None:
    assert content["equal"] == len(content["kills"]) == 20
    assert all(kill["rows_once_each"] for kill in content["kills"])


def check_soak(content: dict[str, Any]) -> None:
    assert content["iterations"] >= 2000 and content["kills"] >= 39
    assert max(content["slopes"][f"{process}_rss_mb"] for process in ("driver", "learner")) < 1


CHECKS = {"runners": check_runners, "driver": check_driver, "soak": check_soak}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_kills_ended_as_the_undisturbed_run_and_soaks_are_flat(path: Path) -> None:
    CHECKS[path.stem](json.loads(path.read_text()))
