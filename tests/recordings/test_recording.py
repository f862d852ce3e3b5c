"""Training that is recorded: what is kept, and that nothing else changes for it."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from probes import assert_equal_weights
from pyarrow.fs import SubTreeFileSystem
from ray.train._internal.storage import StorageContext
from run_probe import make_config as make_run_config
from tensorboard_text import texts_in

from sfpo_rllib import SFPOConfig, run
from sfpo_rllib.algorithms.grpo.recording import Recording
from sfpo_rllib.env_runners.remote_group import RemoteGroup
from sfpo_rllib.recordings import RolloutStore, read_rollouts, recorder
from sfpo_rllib.recordings.store import find_parts

pytestmark = pytest.mark.usefixtures("ray_cluster")


def folder_of(algo: Any) -> Path:
    return Path(algo.logdir)


def test_what_is_recorded_is_what_engine_and_learner_computed_and_training_is_bit_equal(
    make_config: Callable[..., SFPOConfig], running: Callable[[Any], Any]
) -> None:
    algos = {}
    for count in (0, 2):
        config = make_config().reporting(record_rollouts=count)
        config.training(minibatch_size=8).evaluation(evaluation_duration=10)
        algos[count] = running(config.build_algo())
        for _ in range(2):
            algos[count].train()
        algos[count].evaluate()
    assert_equal_weights(*(algo.get_module_weights() for algo in algos.values()))
    assert not (folder_of(algos[0]) / "rollouts").exists()
    rows = list(read_rollouts(folder_of(algos[2])))
    stages = [(row["iteration"], row["stage"]) for row in rows]
    assert stages == 8 * [(1, "training")] + 8 * [(2, "training")] + 8 * [(2, "evaluation")]
    for row in rows:
        length, sampled = len(row["token_ids"]), np.array(row["sampled"])
        assert all(len(row[n]) == length for n in ("tokens", "sampled", "logprobs"))
        prompt, reply = row["messages"]
        assert prompt["turn"] == -1 and prompt["content"] == "".join(
            row["tokens"][: reply["start"]]
        )
        assert (reply["start"], reply["end"]) == (int(np.argmax(sampled)), length)
        said = "".join(row["tokens"][reply["start"] :])
        for control in ("<eos>", "<pad>", "<unk>"):  # which no environment sees
            said = said.replace(control, "")
        assert reply["content"] == said
        if row["stage"] == "evaluation":
            assert row["advantage"] is row["old_logps"] is row["entropies"] is None
            continue
        assert row["weights_versions"] == [row["iteration"] - 1]
        old, entropies = np.array(row["old_logps"]), np.array(row["entropies"])
        assert (np.isnan(old) == ~sampled).all() and (np.isnan(entropies) == ~sampled).all()
        assert np.allclose(old[sampled], np.array(row["logprobs"])[sampled], atol=1e-4)
        assert (entropies[sampled] > 0).all() and (entropies[sampled] < math.log(20)).all()
    groups = [rows[i : i + 4] for i in range(0, len(rows), 4)]
    assert all([row["member"] for row in group] == [0, 1, 2, 3] for group in groups)
    assert all(len({row["seed"] for row in group}) == 1 for group in groups)
    assert {row["seed"] for row in rows if row["stage"] == "evaluation"} == {0, 1}
    assert algos[2].config.env_config == find_parts(folder_of(algos[2]))[0].about["env_config"]


def test_a_run_that_goes_on_has_each_iteration_once_and_its_replies_for_tensorboard(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_run_config(str(tiny_model), str(tmp_path / "hold"))
    config.reporting(record_rollouts=1, show_replies_every=2)
    config.evaluation(evaluation_duration=4)

    class Stopped(Exception):
        pass

    def stop(algo: Any, result: dict[str, Any]) -> None:
        if algo.iteration == 3:  # after the checkpoint of the second
            raise Stopped

    def go(**options: Any) -> Any:
        return run(
            config, tmp_path, iterations=4, checkpoint_every=2, evaluate_ends=True, **options
        )

    with pytest.raises(Stopped):
        go(on_result=stop)
    third = tmp_path / "rollouts" / "training_000003.parquet"
    before = list(read_rollouts(tmp_path))
    assert third.exists()
    third.write_bytes(b"of a run that was stopped")
    assert go().resumed_from == 2
    names = [part.path.name for part in RolloutStore(tmp_path).parts()]
    assert names == [
        "evaluation_000000.parquet",
        *(f"training_00000{i}.parquet" for i in range(1, 5)),
        "evaluation_000004.parquet",
    ]
    again = [row for row in read_rollouts(tmp_path) if row["iteration"] <= 3]
    assert str(again) == str(before)  # NaN is not equal to itself
    shown = texts_in(tmp_path / "replies")
    assert sorted(shown) == [2, 4]
    printed = capsys.readouterr().out
    training = [row for row in read_rollouts(tmp_path) if row["stage"] == "training"]
    rows = {(row["iteration"], row["member"]): row for row in training}
    for iteration, text in shown.items():
        assert f"iteration {iteration}: what the model writes" in printed
        for place in (printed, text):
            assert f"reward {rows[iteration, 0]['reward']:g}" in place
            assert rows[iteration, 0]["messages"][1]["content"] in place


def test_only_groups_that_are_recorded_travel_to_the_driver(
    make_config: Callable[..., SFPOConfig],
    running: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config().env_runners(num_env_runners=1).reporting(record_rollouts=3)
    fetched: list[int] = []
    fetch = RemoteGroup.__getitem__

    def counted(group: RemoteGroup, index: Any) -> Any:
        fetched.append(len(group))
        return fetch(group, index)

    monkeypatch.setattr(RemoteGroup, "__getitem__", counted)
    algo = running(config.build_algo())
    algo.train()
    assert fetched == [4, 4, 4]
    assert len(list(read_rollouts(folder_of(algo)))) == 12


def test_a_disk_that_is_full_costs_the_recording_and_is_counted(
    make_config: Callable[..., SFPOConfig],
    running: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(recorder.RolloutStore, "write", refuse)
    algo = running(make_config().reporting(record_rollouts=2).build_algo())
    result = algo.train()
    assert result["env_runners"]["num_groups_not_recorded_lifetime"] == 2
    assert "2 groups are not recorded" in caplog.text and "no space left" in caplog.text


def test_groups_that_are_dropped_have_no_advantage(
    make_config: Callable[..., SFPOConfig], running: Callable[[Any], Any]
) -> None:
    # No reply of a random model is right: all groups are of equal rewards.
    config = make_config().training(equal_reward_groups="drop").reporting(record_rollouts=9)
    algo = running(config.build_algo())
    algo.train()
    rows = list(read_rollouts(folder_of(algo)))
    assert len(rows) == 16
    assert all(row["old_logps"] is None and row["advantage"] is None for row in rows)


def test_files_of_a_trial_lie_where_its_results_do(tmp_path: Path) -> None:
    storage = StorageContext(tmp_path, "sweep", trial_dir_name="trial_1")
    algo = SimpleNamespace(_storage=storage, logdir="/elsewhere")
    folder = Recording._run_folder.fget(algo)  # type: ignore[attr-defined]
    assert folder == tmp_path / "sweep" / "trial_1"
    storage.storage_filesystem = SubTreeFileSystem("bucket", storage.storage_filesystem)
    assert Recording._run_folder.fget(algo) == Path("/elsewhere")  # type: ignore[attr-defined]
    algo._storage = None
    assert Recording._run_folder.fget(algo) == Path("/elsewhere")  # type: ignore[attr-defined]
