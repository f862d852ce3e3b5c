"""Checkpoints of algorithms: whole and checked, old ones too; states."""

import copy
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from checkpoint_files import (
    MODULE,
    assert_same,
    damaged_copies,
    files_of,
    largest_file,
    tensors_of,
)
from probes import assert_equal_weights, sfpo_results, train
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_OPTIMIZER,
)
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.checkpoints import Checkpointable
from safetensors.torch import load_file, save_file

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.algorithms.grpo.learner_actors import LearnerError
from sfpo_rllib.checkpoints import (
    CheckpointedAlgorithm,
    CheckpointError,
    SavedAsTensors,
    components,
    read_weights,
    verify,
)
from sfpo_rllib.checkpoints.manifest import MANIFEST, write_manifest
from sfpo_rllib.env_runners.stream.ledger import Outcome

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[Any], Any]

# What is in it.


def test_weights_and_moments_are_safetensors_and_classes_are_the_only_pickles(
    algo: SFPO, checkpoint: Path
) -> None:
    weights = algo.get_module_weights()
    saved = load_file(checkpoint / MODULE / "module_state.safetensors")
    assert_equal_weights(saved, {name: weights[name] for name in saved})
    assert len(weights) - len(saved) == 1, "one is tied"
    learner = load_file(
        checkpoint / COMPONENT_LEARNER_GROUP / COMPONENT_LEARNER / "state.safetensors"
    )
    for moment in ("exp_avg", "exp_avg_sq"):
        assert sum(name.endswith(f"/{moment}") for name in learner) == len(saved)
    pickles = {path.name: path for path in checkpoint.rglob("*.pkl")}
    for name, path in pickles.items():
        if name != "class_and_ctor_args.pkl":
            assert pickle.loads(path.read_bytes()) == {}, "RLlib's own components"
    assert set(json.loads((checkpoint / MANIFEST).read_text())["files"]) == set(
        files_of(checkpoint)
    ) - {MANIFEST}


def test_the_module_can_be_loaded_alone(algo: SFPO, checkpoint: Path) -> None:
    module = RLModule.from_checkpoint(checkpoint / MODULE)
    assert_equal_weights(module.weights(), algo.get_module_weights())


def test_rllibs_own_from_checkpoint_takes_it_too(
    algo: SFPO, checkpoint: Path, running: Running
) -> None:
    restored = running(Algorithm.from_checkpoint(str(checkpoint)))
    assert type(restored) is SFPO
    algo.restore_from_path(checkpoint)
    assert_same_state(restored.get_state(), algo.get_state())


# Saving.


def test_a_disk_full_in_the_middle_of_any_file_leaves_the_former_checkpoint(
    algo: SFPO, stranger: Path
) -> None:
    before = files_of(stranger)
    sizes = sorted({len(content) // 2 for content in before.values()})
    for middle in sizes:
        with (
            pytest.raises(CheckpointError, match=r"could not be saved.*(File too large|larg)"),
            largest_file(middle),
        ):
            algo.save_to_path(stranger)
        assert files_of(stranger) == before
    assert os.listdir(stranger.parent) == ["stranger"]
    assert algo.save_to_path(stranger) == str(stranger)
    verify(stranger)


# Loading.


def test_any_damage_ends_loading_before_anything_is_built_and_names_the_file(
    checkpoint: Path, tmp_path: Path, nothing_heavy: None
) -> None:
    for name, damage, damaged in damaged_copies(checkpoint, tmp_path):
        with pytest.raises(CheckpointError) as error:
            SFPO.from_checkpoint(damaged)
        assert name == MANIFEST or f"{damaged}/{name}: " in str(error.value), (name, damage)


def test_a_running_algorithm_refuses_a_damaged_checkpoint_and_goes_on(
    algo: SFPO, stranger: Path
) -> None:
    weights = algo.get_module_weights()
    for folder in sorted(path for path in stranger.rglob("*") if path.is_dir()):
        aside = folder.rename(stranger.parent / "aside")
        for restore in (algo.restore_from_path, algo.restore, Algorithm.from_checkpoint):
            with pytest.raises(CheckpointError, match="is missing"):
                restore(str(stranger))
        aside.rename(folder)
    part = stranger / MODULE
    (part / "module_state.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"module_state\.safetensors: has 1 bytes"):
        algo.restore_from_path(part, component=str(MODULE))
    assert_equal_weights(algo.get_module_weights(), weights)


def test_what_is_sampled_ahead_is_given_up_for_a_checkpoint_that_can_be_loaded_and_no_other(
    algo: SFPO, checkpoint: Path, stranger: Path, tmp_path: Path
) -> None:
    stream = algo._rollouts.stream
    ahead = [(stream.cursor + i, Outcome(0, reason="whatever")) for i in range(2)]
    stream.reset(stream.run_seed, stream.cursor + 2, ahead)
    (stranger / MODULE / "module_state.safetensors").write_bytes(b"x")
    for path in (stranger, tmp_path / "nothing"):
        for settings in ({}, {"weights_only": True}):
            with pytest.raises(CheckpointError):
                algo.restore_from_path(path, **settings)
            assert stream.ledger.outcomes() == ahead and stream.cursor == ahead[-1][0] + 1
    algo.restore_from_path(checkpoint / MODULE, component=str(MODULE))
    assert not len(stream.ledger) and stream.cursor == ahead[0][0]  # which come again
    algo.restore_from_path(checkpoint)


def test_a_part_can_be_restored_alone(algo: SFPO, checkpoint: Path, stranger: Path) -> None:
    moved = {name: tensor + 1 for name, tensor in tensors_of(stranger).items()}
    save_file(moved, stranger / MODULE / "module_state.safetensors")
    write_manifest(stranger)
    algo.restore_from_path(stranger / MODULE, component=str(MODULE))
    weights = algo.get_module_weights()
    assert_equal_weights({name: weights[name] for name in moved}, moved)
    algo.restore_from_path(checkpoint)
    weights = algo.get_module_weights()
    assert_equal_weights({name: weights[name] for name in moved}, tensors_of(checkpoint))


# Of earlier releases.


@pytest.fixture
def old(algo: SFPO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as RLlib writes it: pickles throughout, and no manifest."""
    with monkeypatch.context() as patch:
        patch.delattr(SavedAsTensors, "save_to_path")
        patch.delattr(CheckpointedAlgorithm, "get_metadata")
        folder = Path(Checkpointable.save_to_path(algo, tmp_path / "old"))
    assert not list(folder.rglob("*.safetensors")) + list(folder.rglob(MANIFEST))
    return folder


def test_a_checkpoint_of_an_earlier_release_loads_with_one_warning_and_is_saved_anew(
    algo: SFPO, old: Path, running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="sfpo_rllib"):
        restored = running(SFPO.from_checkpoint(old))
    assert [message for message in caplog.messages if str(old) in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert_same_state(restored.get_state(), algo.get_state())
    assert restored.save_to_path(old) == str(old)
    verify(old)
    assert not {path.name for path in old.rglob("state.pkl")} - {"state.pkl"}
    assert not (old / "algorithm_state.pkl").exists(), "nothing of the old one is left"
    assert_equal_weights(
        {n: torch.from_numpy(a) for n, a in read_weights(old).items()}, tensors_of(old)
    )


def test_damage_to_a_checkpoint_of_an_earlier_release_is_named_where_it_can_be_seen(
    algo: SFPO, old: Path, tmp_path: Path
) -> None:
    weights = algo.get_module_weights()
    for name in ("algorithm_state.pkl", str(MODULE / "module_state.pkl")):
        content = (old / name).read_bytes()
        for damaged in (None, b"", content[: len(content) // 2]):
            (old / name).unlink() if damaged is None else (old / name).write_bytes(damaged)
            with pytest.raises(CheckpointError, match=name):
                algo.restore_from_path(old)
        (old / name).write_bytes(content)
    shutil.rmtree(old / COMPONENT_LEARNER_GROUP)
    with pytest.raises(CheckpointError, match=COMPONENT_LEARNER_GROUP):
        SFPO.from_checkpoint(old)
    assert_equal_weights(algo.get_module_weights(), weights)


def test_a_state_without_its_count_of_batches_is_no_silent_restart_of_the_learning_rate(
    algo: SFPO, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    algo.restore_from_path(checkpoint)
    learner = algo.learner_group._learner
    state = algo.get_state()
    own = state[COMPONENT_LEARNER_GROUP][COMPONENT_LEARNER]["sfpo"]
    assert own.pop("num_batches") == 2
    with caplog.at_level(logging.WARNING, logger="sfpo_rllib"):
        algo.set_state(state)
    assert "num_batches" in caplog.text
    assert learner._num_batches == 2, "as many as there were updates of the weights"
    own["num_batches"] = 1
    algo.set_state(state)
    assert learner._num_batches == 1
    algo.restore_from_path(checkpoint)


# States.


def assert_same_state(one: Any, other: Any) -> None:
    """Equal but for times, which differ from run to run, and rates, which each batch sets anew."""
    for state in (one, other):
        state.pop("metrics_logger")
        learner = state[COMPONENT_LEARNER_GROUP][COMPONENT_LEARNER]
        learner.pop("metrics_logger")
        for optimizer in learner[COMPONENT_OPTIMIZER].values():
            for group in optimizer["state"]["param_groups"]:
                group.pop("lr")
    assert_same(one, other)


def test_a_state_that_is_set_again_takes_all_back(algo: SFPO, checkpoint: Path) -> None:
    algo.restore_from_path(checkpoint)
    state = algo.get_state()
    untouched = copy.deepcopy(state)
    weights = algo.get_module_weights()
    after = []
    for _ in range(2):
        problems, results = train(algo, 2)
        after.append((problems, algo.get_module_weights(), sfpo_results(results[-1])))
        assert_same(state, untouched)  # training went on in arrays of its own
        algo.set_state(state)
        assert_equal_weights(algo.get_module_weights(), weights)
        assert algo.iteration == 2
    (problems, trained, result), (problems_again, trained_again, result_again) = after
    assert problems == problems_again
    assert_equal_weights(trained, trained_again)
    for name in ("engine_logp_diff", "entropy", "optimizer_steps_lifetime", "entropy_z"):
        np.testing.assert_equal(result[name], result_again[name])


def test_steps_skipped_in_a_row_are_counted_across_a_checkpoint(
    algo: SFPO, checkpoint: Path, tmp_path: Path
) -> None:
    guard = algo.learner_group._learner._step_guard
    guard.skipped, guard.in_a_row = 5, 3
    folder = algo.save_to_path(tmp_path / "skipping")
    algo.restore_from_path(checkpoint)
    assert (guard.skipped, guard.in_a_row) == (0, 0)
    algo.restore_from_path(folder)
    assert (guard.skipped, guard.in_a_row) == (5, 3)
    algo.restore_from_path(checkpoint)


def test_a_state_that_is_given_is_saved_instead_of_the_present_one(
    algo: SFPO, checkpoint: Path, tmp_path: Path
) -> None:
    algo.restore_from_path(checkpoint)
    state = algo.get_state()
    algo.train()
    folder = algo.save_to_path(tmp_path / "given", state=state)
    assert files_of(Path(folder)).keys() == files_of(checkpoint).keys()
    algo.restore_from_path(folder)
    assert_same_state(algo.get_state(), state)


@pytest.mark.slow
def test_a_learner_that_cannot_write_or_read_its_part_ends_the_save_and_the_restore(
    config: SFPOConfig, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, on this node and as if it were on another one."""

    def fail(learner: Any, method: str) -> None:
        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        setattr(learner, method, full)

    def mend(learner: Any, method: str) -> None:
        delattr(learner, method)

    algo = running(config.copy(copy_frozen=False).learners(num_learners=1).build_algo())
    train(algo, 1)
    folder = tmp_path / "checkpoint"
    for node in (components._node(), "elsewhere"):
        monkeypatch.setattr(components, "_node", lambda node=node: node)
        algo.save_to_path(folder)
        before, weights = files_of(folder), algo.get_module_weights()
        verify(folder)
        for method in ("get_state", "get_ctor_args_and_kwargs"):
            algo.learner_group.foreach_learner(fail, method=method)
            with pytest.raises(CheckpointError, match=r"learner could not .* No space left"):
                algo.save_to_path(folder)
            algo.learner_group.foreach_learner(mend, method=method)
        assert files_of(folder) == before
        train(algo, 1)
        if node == "elsewhere":
            algo.learner_group.foreach_learner(fail, method="set_state")
            message = r"learner 0 of 1 raised OSError: .*No space left"
            with pytest.raises(LearnerError, match=message):
                algo.restore_from_path(folder)
        algo.restore_from_path(folder)  # into a new learner, if that one was half restored
        assert_equal_weights(algo.get_module_weights(), weights)
    # What a learner is given is memory that it cannot write to: it has to copy.
    state = algo.get_state()
    trained = train(algo, 1)[0], algo.get_module_weights()
    algo.set_state(state)
    assert train(algo, 1)[0] == trained[0]
    assert_equal_weights(algo.get_module_weights(), trained[1])
