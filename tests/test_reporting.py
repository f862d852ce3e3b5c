"""What a run prints and leaves behind."""

import csv
from pathlib import Path

from sfpo_rllib.reporting import COLUMNS, RunReport, flatten, iteration_line


def make_result(iteration: int, **evaluation: float) -> dict:
    result: dict = {
        "training_iteration": iteration,
        "env_runners": {
            "num_rollouts_lifetime": 16.0 * iteration,
            "accuracy": 0.25,
            "episode_return_mean": 0.5,
            "tokens_per_s": 1234.5,
        },
        "learners": {
            "default_policy": {"sfpo": {"entropy": 0.75, "active": 1.0, "displacement_norm": 2.0}}
        },
        "timers": {"sample": 1.0, "learn": 2.0, "sync_weights": 0.5},
        "hostname": "somewhere",
    }
    if evaluation:
        result["evaluation"] = {"env_runners": evaluation}
    return result


def test_flatten_keeps_the_numbers_of_a_nested_result() -> None:
    flat = dict(flatten({"a": {"b": 1, "c": {"d": 2.5}}, "text": "x", "flag": True, "none": None}))
    assert flat == {"a/b": 1.0, "a/c/d": 2.5}


def test_line_says_what_a_person_watches() -> None:
    line = iteration_line(make_result(3))
    for part in ("iter    3", "accuracy 0.250", "reward 0.500", "entropy 0.750", "SFPO on"):
        assert part in line
    for part in ("tok/s", "sample 1.00 s", "learn 2.00 s", "sync 0.50 s"):
        assert part in line
    assert "held-out" not in line
    assert "held-out 0.400" in iteration_line(make_result(3, accuracy=0.4))


def test_report_leaves_csv_tensorboard_events_and_a_plot(tmp_path: Path) -> None:
    report = RunReport(tmp_path / "run")
    report.add_heldout(0, 0.2)
    report.add(make_result(1))
    report.add(make_result(2, accuracy=0.4))
    plot = report.plot("title")
    report.close()

    with open(tmp_path / "run" / "progress.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["heldout_accuracy"] for row in rows] == ["0.2", "", "0.4"]
    assert [row["rollouts"] for row in rows] == ["0", "16.0", "32.0"]
    assert plot.stat().st_size > 1000
    assert list((tmp_path / "run").glob("events.out.tfevents*"))
