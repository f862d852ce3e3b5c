"""What a run prints and leaves behind."""

import csv
import math
import re
from pathlib import Path

import pytest

from sfpo_rllib.reporting import (
    FIELDS,
    PROGRESS,
    RunReport,
    flatten,
    highest,
    iteration_line,
    read_rows,
    row_of,
)


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
            "default_policy": {
                "sfpo": {"entropy": 0.75, "active": 1.0, "displacement_norm": 2.0}
                | {f"pass_{k}": {"loss": 0.5 if k < 4 else math.nan} for k in range(8)}
            }
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
    for part in ("iter    3", "accuracy 0.250", "reward 0.500", "entropy 0.750", " 4 passes"):
        assert part in line
    for part in (" 1234 tok/s", " 3.5 s"):
        assert part in line
    assert "held-out" not in line
    assert "held-out accuracy 0.400" in iteration_line(make_result(3, accuracy=0.4))


def test_line_says_how_much_was_cut_or_taught_nothing_where_that_is_much() -> None:
    def warnings(cut: float, equal: float) -> list[str]:
        result = make_result(3) | {"config": {"group_size": 4}}
        numbers = {"truncated_fraction": cut, "num_groups_equal_reward": equal}
        result["env_runners"] |= {"num_episodes": 32, **numbers}
        return [line.strip() for line in iteration_line(result).splitlines()[1:]]

    assert warnings(0.05, 3) == []
    assert warnings(0.25, 3) == ["25% of replies cut"]
    assert warnings(0.25, 6) == ["25% of replies cut, 75% of groups with equal rewards"]
    assert warnings(0, 4) == ["50% of groups with equal rewards"]


def test_line_fits_a_terminal_of_100_columns_with_what_is_left_beside_it() -> None:
    result = make_result(9999)
    result["env_runners"] |= {"episode_return_mean": -0.5, "tokens_per_s": 123456.0}
    result["timers"] = {"sample": 100.0, "learn": 500.0, "sync_weights": 3.0}
    assert len(iteration_line(result) + "  99:59 left") <= 100


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / PROGRESS, newline="") as file:
        return list(csv.DictReader(file))


def iterations_of(folder: Path) -> list[float]:
    return [float(row["iteration"]) for row in rows_of(folder)]


def test_report_leaves_csv_and_tensorboard_events(tmp_path: Path) -> None:
    report = RunReport(tmp_path / "run")
    before = {"training_iteration": 0, "env_runners": {"num_rollouts_lifetime": 0}}
    report.add({**before, "evaluation": {"env_runners": {"accuracy": 0.2}}})
    report.add(make_result(1))
    report.add(make_result(2))
    report.add_to_last({"evaluation": {"env_runners": {"accuracy": 0.4}}})
    report.close()

    rows = rows_of(tmp_path / "run")
    assert list(rows[0]) == list(FIELDS)
    assert [row["heldout_accuracy"] for row in rows] == ["0.2", "", "0.4"]
    assert [row["rollouts"] for row in rows] == ["0.0", "16.0", "32.0"]
    assert list((tmp_path / "run").glob("events.out.tfevents*"))
    assert read_rows(tmp_path / "run" / PROGRESS) == report.rows


def test_a_row_counts_the_passes_that_were_made() -> None:
    passes = {"pass_0": {"loss": 0.5, "entropy": 1.0}, "pass_1": {"loss": float("nan")}}
    result = {"learners": {"default_policy": {"sfpo": {**passes, "pass_2": {"loss": 0.25}}}}}
    assert row_of(dict(flatten(result)))["passes"] == 2
    assert "passes" not in row_of({"training_iteration": 1.0})


def test_a_row_has_what_shows_that_a_run_learns_nothing() -> None:
    passes = {
        f"pass_{k}": {"loss": loss, "grad_norm": 1.0 + k, "clip_fraction": k / 10}
        for k, loss in enumerate([0.5, 0.25, math.nan])
    }
    numbers = {
        "completion_length_mean": 7.5,
        "truncated_fraction": 0.75,
        "num_groups_equal_reward": 3.0,
    }
    result = {"env_runners": numbers, "learners": {"default_policy": {"sfpo": passes}}}
    expected = numbers | {"passes": 2, "grad_norm": 2.0, "clip_fraction": 0.1}
    assert row_of(dict(flatten(result))) == expected


def test_a_run_goes_on_where_its_rows_have_fewer_columns(tmp_path: Path) -> None:
    old = "iteration,rollouts,heldout_accuracy\r\n1.0,16.0,0.25\r\n2.0,32.0,\r\n3.0,48.0,\r\n"
    (tmp_path / PROGRESS).write_text(old, newline="")
    report = RunReport(tmp_path, after=2)
    result = make_result(3)
    result["env_runners"]["truncated_fraction"] = 0.5
    report.add(result)
    report.close()
    rows = rows_of(tmp_path)
    assert all(list(row) == list(FIELDS) for row in rows)
    columns = ("iteration", "rollouts", "heldout_accuracy", "truncated_fraction")
    assert [[row[name] for name in columns] for row in rows] == [
        ["1.0", "16.0", "0.25", ""],
        ["2.0", "32.0", "", ""],
        ["3.0", "48.0", "", "0.5"],
    ]


def test_the_highest_is_the_newest_of_equal_ones_and_no_nan() -> None:
    values = {1: 0.5, 2: 0.75, 3: math.nan, 4: 0.75, 5: 0.25}
    rows = [{"iteration": float(i), "reward": value} for i, value in values.items()]
    rows += [{"iteration": 6.0}]
    assert highest(rows, "reward") == (4, 0.75)
    assert highest(rows, "reward", among=[1, 3, 5, 6]) == (1, 0.5)
    assert highest(rows, "reward", among=[3, 6]) is None
    assert highest(rows, "accuracy") is None


def test_the_docs_name_every_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    table = page.split("| column | is |")[1].split("\n\n")[0]
    names = [row.split("|")[1] for row in table.strip().splitlines()[1:]]
    assert [name for cell in names for name in re.findall(r"`(\w+)`", cell)] == list(FIELDS)


@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_a_run_that_goes_on_has_each_iteration_once_wherever_its_last_row_was_cut(
    tmp_path: Path, cut: int
) -> None:
    report = RunReport(tmp_path)
    for iteration in range(1, 18):
        report.add(make_result(iteration))
    report.close()
    content = (tmp_path / PROGRESS).read_bytes()
    (tmp_path / PROGRESS).write_bytes(content[: len(content) - cut])

    report = RunReport(tmp_path, after=10)
    assert [row["iteration"] for row in report.rows] == list(range(1, 11))
    assert iterations_of(tmp_path) == list(range(1, 11))
    for iteration in range(11, 14):
        report.add(make_result(iteration))
    report.close()
    assert iterations_of(tmp_path) == list(range(1, 14))


def test_a_kill_while_rows_are_cut_away_leaves_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = RunReport(tmp_path)
    report.add(make_result(1))
    report.close()
    content = (tmp_path / PROGRESS).read_bytes()

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        RunReport(tmp_path)
    assert (tmp_path / PROGRESS).read_bytes() == content


def test_tensorboard_is_told_which_events_are_made_anew(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    RunReport(tmp_path, after=10).close()
    (file,) = tmp_path.glob("events.out.tfevents*")
    content = file.read_bytes()
    starts = []
    while content:  # each record: length, its checksum, the event, its checksum
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        if event.session_log.status == SessionLog.START:
            starts.append(event.step)
        content = content[16 + length :]
    assert starts == [11]


def test_two_reports_of_the_same_second_have_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: 1.8e9)
    for after in (0, 1):
        RunReport(tmp_path, after=after).close()
    assert len(list(tmp_path.glob("events.out.tfevents*"))) == 2
