"""A run's folder: what it refuses, what it keeps, what it never touches."""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from sfpo_rllib import SFPOConfig, run
from sfpo_rllib.checkpoints import CheckpointError
from sfpo_rllib.checkpoints.manifest import announcement, write_manifest
from sfpo_rllib.reporting import PROGRESS
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.run_loop.folder import RECORD, RunFolder, Session

MakeConfig = Callable[..., SFPOConfig]


class Saver:
    """Saves as an algorithm does, but nothing that would take time."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def save_to_path(self, path: str) -> None:
        folder = Path(path)
        folder.mkdir(exist_ok=True)
        (folder / "rllib_checkpoint.json").write_text(json.dumps(announcement()))
        (folder / "weights").write_text(str(self.iteration))
        write_manifest(folder)


def save(place: RunFolder, iteration: int, rows: Sequence[dict[str, float]] = ()) -> None:
    place.save(Saver(iteration), rows)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint_*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a run"


def test_the_newest_checkpoints_stay_and_nothing_of_others_goes(
    good: SFPOConfig, folder: Path
) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint_mine").mkdir()
    with RunFolder(folder, good, keep=2) as place:
        assert place.checkpoint is None
        for iteration in (10, 20, 30, 35):
            save(place, iteration)
            if iteration == 10:
                (folder / "checkpoint_000010" / "my_notes").touch()
    # The one with a file of somebody else's is not deleted.
    assert names(folder) == [
        "checkpoint_000010",
        "checkpoint_000030",
        "checkpoint_000035",
        "checkpoint_mine",
    ]
    assert (folder / "notes.txt").read_text() == "mine"
    with RunFolder(folder, good, keep=2) as place:
        assert place.checkpoint is not None and place.checkpoint.name == "checkpoint_000035"


def test_the_best_checkpoint_stays_beside_the_newest_until_there_is_a_better_one(
    good: SFPOConfig, folder: Path
) -> None:
    accuracy = {5: 0.9, 10: 0.8, 20: 0.5, 30: math.nan, 40: 0.1, 60: 0.8}  # 5 is no checkpoint
    rows = [{"iteration": float(i), "heldout_accuracy": value} for i, value in accuracy.items()]
    there = {
        10: [10],
        20: [10, 20],
        30: [10, 30],
        40: [10, 40],
        50: [10, 50],
        60: [60],
        70: [60, 70],
    }
    for iterations in ((10, 20, 30), (40, 50, 60, 70)):  # two sessions
        with RunFolder(folder, good, keep=1, keep_best="heldout_accuracy") as place:
            for iteration in iterations:
                save(place, iteration, [row for row in rows if row["iteration"] <= iteration])
                assert names(folder) == [f"checkpoint_{i:06d}" for i in there[iteration]]
                place.write_record()


def test_a_best_checkpoint_that_is_gone_does_not_take_the_place_of_the_next_best(
    good: SFPOConfig, folder: Path
) -> None:
    rows = [{"iteration": i, "reward": r} for i, r in {1: 0.9, 2: 0.8, 3: 0.1, 4: 0.0}.items()]
    with RunFolder(folder, good, keep=3, keep_best="reward") as place:
        for iteration in (1, 2, 3):
            save(place, iteration, rows[:iteration])
        place.write_record()
    shutil.rmtree(folder / "checkpoint_000001")
    with RunFolder(folder, good, keep=1, keep_best="reward") as place:
        save(place, 4, rows)
    assert names(folder) == ["checkpoint_000002", "checkpoint_000004"]


def test_a_checkpoint_that_a_kill_left_half_deleted_goes_with_the_next(
    good: SFPOConfig, folder: Path
) -> None:
    with RunFolder(folder, good, keep=1) as place:
        save(place, 1)
        place.record.checkpoints.insert(0, "checkpoint_000000")
        half = folder / ".checkpoint_000000.deleted"
        half.mkdir()
        (half / "weights").touch()
        save(place, 2)
        assert not half.exists()
        assert names(folder) == ["checkpoint_000002"]


def test_a_damaged_checkpoint_is_passed_over_and_written_anew(
    good: SFPOConfig, folder: Path
) -> None:
    with RunFolder(folder, good, keep=3) as place:
        for iteration in (1, 2):
            save(place, iteration)
    (folder / "checkpoint_000002" / "weights").write_text("?")
    with RunFolder(folder, good, keep=3) as place:
        assert place.checkpoint is not None and place.checkpoint.name == "checkpoint_000001"
        save(place, 2)
    with RunFolder(folder, good, keep=3) as place:
        assert place.checkpoint is not None and place.checkpoint.name == "checkpoint_000002"


def test_a_folder_whose_checkpoints_are_all_damaged_is_no_beginning(
    good: SFPOConfig, folder: Path
) -> None:
    with RunFolder(folder, good, keep=3) as place:
        save(place, 1)
    (folder / "checkpoint_000001" / "weights").unlink()
    with pytest.raises(CheckpointError, match=r"move those in it away .*weights: is missing"):
        RunFolder(folder, good, keep=3)


def test_two_processes_do_not_train_in_one_folder(good: SFPOConfig, folder: Path) -> None:
    first = RunFolder(folder, good, keep=1)
    with first, pytest.raises(ValueError, match="no other process trains in"):
        RunFolder(folder, good, keep=1)
    with RunFolder(folder, good, keep=1) as second:
        assert second.checkpoint is None


def begin(folder: Path, config: SFPOConfig) -> None:
    with RunFolder(folder, config, keep=1) as place:
        place.record.sessions.append(Session(0, 0))
        save(place, 1)


def refusal(folder: Path, config: SFPOConfig, **settings: Any) -> list[str]:
    with pytest.raises(ValueError) as caught:
        RunFolder(folder, config, keep=1, **settings)
    heading, *lines = str(caught.value).splitlines()
    assert "holds a run of other settings" in heading
    return lines


def test_another_config_is_refused_with_what_differs(make_config: MakeConfig, folder: Path) -> None:
    begin(folder, make_config())
    other = make_config(env_config={"num_digits": 3}).training(lr=0.5, fast_steps=2)
    assert refusal(folder, other) == [
        "env_config.num_digits=3: must be 2",
        "fast_steps=2: must be 3",
        "lr=0.5: must be 0.001",
    ]
    (line,) = refusal(folder, other, may_differ=("lr", "env_config"))
    assert line == "fast_steps=2: must be 3"
    with RunFolder(folder, other, keep=1, may_differ=("lr", "env_config", "fast_steps")) as place:
        assert place.checkpoint is not None


def test_a_run_that_saved_nothing_makes_room_for_another_config(
    make_config: MakeConfig, folder: Path
) -> None:
    with RunFolder(folder, make_config(), keep=1) as place:
        place.write_record()
        (folder / PROGRESS).write_text("iteration\n")
    with RunFolder(folder, make_config(), keep=1):
        assert (folder / PROGRESS).exists()
    with RunFolder(folder, make_config().training(lr=0.5), keep=1) as place:
        assert not (folder / PROGRESS).exists() and place.record.sessions == []


def test_another_algorithm_is_refused(make_config: MakeConfig, folder: Path) -> None:
    from sfpo_rllib import GRPOConfig

    begin(folder, make_config())
    assert "algorithm='GRPO': must be 'SFPO'" in refusal(folder, make_config(GRPOConfig))


def test_where_it_runs_may_differ(make_config: MakeConfig, folder: Path) -> None:
    begin(folder, make_config())
    moved = make_config().env_runners(num_env_runners=3, rollout_timeout_s=5)
    with RunFolder(folder, moved, keep=1) as place:
        assert place.checkpoint is not None


def test_another_model_is_refused_and_the_same_one_elsewhere_is_not(
    make_config: MakeConfig, folder: Path, tmp_path: Path
) -> None:
    def model(name: str, seed: int) -> Path:
        return build_char_llama(
            tmp_path / name, alphabet="0123456789+=", hidden_size=32, num_layers=1, seed=seed
        )

    def config(path: Path) -> SFPOConfig:
        return make_config().rl_module(model_config={"model": str(path)})

    begin(folder, config(model("one", 0)))
    with RunFolder(folder, config(model("same", 0)), keep=1) as place:
        assert place.checkpoint is not None
    other = model("other", 1)
    (line,) = refusal(folder, config(other))
    assert line.startswith(f"model_config.model={str(other)!r}: must be ")
    begin(tmp_path / "second run", config(other))
    model("other", 2)
    (line,) = refusal(tmp_path / "second run", config(other))
    assert line.endswith("must hold the files that the run began with")


@pytest.mark.parametrize("name", [PROGRESS, "summary.json"])
def test_files_of_somebody_else_are_not_overwritten(
    good: SFPOConfig, folder: Path, name: str
) -> None:
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(ValueError, match=f"must be a new one or one of run.*{name}"):
        RunFolder(folder, good, keep=1)
    assert (folder / name).read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"identity": {}, "sessions": 3}', "\0"])
def test_a_record_that_is_none_is_refused(good: SFPOConfig, folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / RECORD).write_text(content)
    with pytest.raises(ValueError, match="must be a new one or one of run"):
        RunFolder(folder, good, keep=1)
    assert (folder / RECORD).read_text() == content


def test_bad_arguments_are_all_named_before_anything_is_made(
    good: SFPOConfig, folder: Path, nothing_heavy: None
) -> None:
    with pytest.raises(ValueError) as caught:
        run(good, folder, iterations=0, checkpoint_every=1.5, keep=True, grace_s=-1, on_end=3)  # type: ignore[arg-type]
    for field in ("iterations=0", "checkpoint_every=1.5", "keep=True", "grace_s=-1", "on_end=3"):
        assert f"\n{field}: must be" in str(caught.value)
    with pytest.raises(ValueError, match=r"keep_best='acuracy': must be .* mean 'accuracy'\?"):
        run(good, folder, iterations=1, keep_best="acuracy")
    with pytest.raises(ValueError, match="keep_best='heldout_accuracy': must be another column, o"):
        run(good, folder, iterations=1, keep_best="heldout_accuracy")
    with pytest.raises(ValueError, match="folder='s3://bucket/run': must be a path on this"):
        run(good, "s3://bucket/run", iterations=1)
    with pytest.raises(ValueError, match="config=None: must be a GRPOConfig"):
        run(None, folder, iterations=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="group_size"):
        run(good.training(group_size=1), folder, iterations=1)
    assert not folder.exists()


def test_a_file_is_no_folder(good: SFPOConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be a folder, not a file"):
        run(good, tmp_path / "file", iterations=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(good: SFPOConfig, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"):
        run(good, tmp_path / "locked" / "run", iterations=1)
