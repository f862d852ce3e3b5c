"""The benchmark of waiting measures what it says."""

import json
from pathlib import Path

import pytest
from repository import ROOT

from benchmarks.pipeline import driver, environments, weights


def test_slow_environments_are_waited_for_together(tmp_path):
    rows = environments.measure(tmp_path, smoke=True)["num_env_threads"]
    assert all(row["same_episodes"] for row in rows.values())
    assert rows["0"]["times_as_fast"]["ratio"] == 1.0
    assert rows["0"]["seconds"] >= 64 * 0.01  # one after the other
    assert max(rows[threads]["seconds"] for threads in ("16", "64")) < rows["0"]["seconds"]


def test_the_committed_syncs_are_of_the_same_weights_and_now_of_one_copy() -> None:
    folder = ROOT / "benchmarks" / "pipeline" / "results"
    before, now = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("weights_before", "weights")
    )
    assert before["bytes"] == now["bytes"] > 0.5e9
    assert before["environment"]["commit"] != now["environment"]["commit"]
    assert 1.95 < before["median"]["stored_copies"] < 2.1
    assert 0.99 < now["median"]["stored_copies"] < 1.01


def test_the_driver_takes_every_group_of_threads_that_stand_for_runners() -> None:
    rows = driver.measure(Path(), smoke=True)["num_env_runners"]
    assert list(rows) == ["4", "16", "64"]
    assert all(0 < row["ms_a_group"] < 1 for row in rows.values())


def test_the_committed_time_of_the_driver_does_not_grow_with_the_number_of_runners() -> None:
    results = ROOT / "benchmarks" / "pipeline" / "results" / "driver.json"
    rows = json.loads(results.read_text())["num_env_runners"]
    times = [row["ms_a_group"] for row in rows.values()]
    assert list(rows) == ["4", "8", "16", "32", "64"]
    assert max(times) < 1 and max(times) < 1.2 * min(times)


def test_a_slow_runner_holds_up_what_it_is_at_and_no_more() -> None:
    results = ROOT / "benchmarks" / "pipeline" / "results" / "straggler.json"
    seconds = {n: run["seconds"] for n, run in json.loads(results.read_text())["runs"].items()}
    assert seconds["one slow, a group a job"] < seconds["one slow, half a batch a job"] / 1.5


@pytest.mark.slow
def test_weights_are_put_into_the_object_store_once_and_copied_no_further(
    ray_cluster: None, tmp_path: Path
) -> None:
    median = weights.measure(tmp_path, smoke=True)["median"]
    assert 0.99 < median["stored_copies"] < 1.1
    # Peaks are lower bounds: what is here too much was really there.
    assert median["driver_copies"] < 0.5
    for runner in range(weights.NUM_RUNNERS):
        assert median[f"runner_{runner}_copies"] < 0.75


def test_committed_overlap_hides_sampling_behind_learning():
    results = ROOT / "benchmarks" / "pipeline" / "results"
    runs = json.loads((results / "overlap.json").read_text())["runs"]
    for staleness in (1, 2):
        run = runs[f"S={staleness}"]
        assert run["times_as_fast"]["ratio"] >= 1.8
        assert run["stages"]["weights_age"] == staleness
