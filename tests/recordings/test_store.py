"""Files of recorded rollouts: whole, each iteration once, bounded."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from recorded import ABOUT, group

from sfpo_rllib import SFPOConfig
from sfpo_rllib.recordings import ReportingSettings, RolloutStore, read_rollouts
from sfpo_rllib.recordings.store import EVALUATION, TRAINING, find_parts

ROWS = group(1, 2, skill=0.5)


def names(store: RolloutStore) -> list[str]:
    return [part.path.name for part in store.parts()]


def test_what_was_written_is_read_and_other_tools_read_it_too(tmp_path: Path) -> None:
    RolloutStore(tmp_path).write(TRAINING, 3, ROWS, {**ABOUT, "odd": object})
    (first, second) = read_rollouts(tmp_path)
    assert first["iteration"] == 3 and first["stage"] == TRAINING
    for row, written in zip((first, second), ROWS, strict=True):
        for name in ("seed", "member", "reward", "verdict", "tokens", "messages", "metrics"):
            assert row[name] == written[name]
        assert row["logprobs"] == pytest.approx(written["logprobs"].tolist())
    (part,) = find_parts(tmp_path / "rollouts")
    assert part.about["env_name"] == ABOUT["env_name"]
    assert part.num_episodes == 2
    assert part.num_tokens == sum(len(written["token_ids"]) for written in ROWS)
    assert pq.read_table(tmp_path / "rollouts").num_rows == 2
    assert list(read_rollouts(tmp_path, ["seed"])) == [{"seed": 1}, {"seed": 1}]


def test_an_iteration_made_anew_takes_the_place_of_what_was_of_it_and_later(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path)
    for iteration in (1, 2, 3):
        store.write(TRAINING, iteration, ROWS, ABOUT)
        store.write(EVALUATION, iteration, ROWS, ABOUT)
    (tmp_path / "rollouts" / "notes.txt").write_text("a user's")
    store.write(TRAINING, 2, ROWS, ABOUT)
    before = ["training_000001.parquet", "evaluation_000001.parquet"]
    assert names(store) == [*before, "training_000002.parquet"]
    store.write(EVALUATION, 2, ROWS, ABOUT)
    assert names(store) == [*before, "training_000002.parquet", "evaluation_000002.parquet"]
    store.cut(-1)
    assert names(store) == []
    assert (tmp_path / "rollouts" / "notes.txt").exists()


def test_the_oldest_iterations_go_when_the_files_are_too_large_and_the_newest_stays(
    tmp_path: Path,
) -> None:
    size = RolloutStore(tmp_path / "one").write(TRAINING, 1, ROWS, ABOUT).stat().st_size
    store = RolloutStore(tmp_path / "some", max_bytes=3.5 * size)
    for iteration in range(1, 7):
        store.write(TRAINING, iteration, ROWS, ABOUT)
    assert [part.iteration for part in store.parts()] == [4, 5, 6]
    tiny = RolloutStore(tmp_path / "tiny", max_bytes=1)
    for iteration in (1, 2):
        tiny.write(TRAINING, iteration, ROWS, ABOUT)
    assert [part.iteration for part in tiny.parts()] == [2]


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RolloutStore(tmp_path)
    store.write(TRAINING, 1, ROWS, ABOUT)

    def half(table: object, path: Path, **kwargs: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="no space"):
        store.write(TRAINING, 2, ROWS, ABOUT)
    assert [path.name for path in (tmp_path / "rollouts").iterdir()] == ["training_000001.parquet"]


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run=.*nothing.*record_rollouts=n"):
        list(read_rollouts(tmp_path / "nothing"))


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = RolloutStore(tmp_path).write(TRAINING, 1, ROWS, ABOUT)
    path.write_bytes(path.read_bytes()[:-100])
    (part,) = find_parts(tmp_path)
    for read in (part.rows, lambda: part.num_episodes, lambda: part.about):
        with pytest.raises(ValueError, match=r"training_000001.parquet: must be a whole file"):
            read()


@pytest.mark.parametrize(
    ("setting", "value", "right"),
    [
        ("record_rollouts", -1, "an integer >= 0"),
        ("record_rollouts", True, "an integer >= 0"),
        ("record_rollouts", "4", "an integer >= 0"),
        ("record_rollouts_mb", 0, "a number > 0"),
        ("record_rollouts_mb", float("inf"), "a number > 0"),
        ("show_replies_every", 2.5, "an integer >= 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting: str, value: object, right: str) -> None:
    (problem,) = ReportingSettings(**{setting: value}).problems()  # type: ignore[arg-type]
    assert problem.startswith(f"{setting}={value!r}: must be {right}")
    config = SFPOConfig().reporting(**{setting: value})  # type: ignore[arg-type]
    assert problem in list(config.cheap_problems())
