"""Checkpoints of strangers: their weights are taken, and nothing is unpickled."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from checkpoint_files import MODULE, files_of, tensors_of
from probes import assert_equal_weights, sfpo_results
from safetensors.torch import save_file

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.checkpoints import CheckpointError, read_weights
from sfpo_rllib.checkpoints.manifest import MANIFEST, write_manifest

Running = Callable[[Any], Any]


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.makedirs, (str(self.mark),)


def test_weights_of_a_stranger_are_loaded_without_unpickling_anything(
    algo: SFPO, config: SFPOConfig, stranger: Path, tmp_path: Path, running: Running
) -> None:
    mark = tmp_path / "mark"
    pickles = list(stranger.rglob("*.pkl"))
    for path in pickles:
        path.write_bytes(pickle.dumps(Malicious(mark)))
    expected = {name: tensor * 2 for name, tensor in tensors_of(stranger).items()}
    save_file(expected, stranger / MODULE / "module_state.safetensors")
    write_manifest(stranger)
    assert len(pickles) > 5

    weights = {name: torch.from_numpy(array) for name, array in read_weights(stranger).items()}
    assert_equal_weights(weights, expected)
    taken = running(
        SFPO.from_checkpoint(stranger, weights_only=True, config=config.copy(copy_frozen=False))
    )
    weights = taken.get_module_weights()
    assert_equal_weights({name: weights[name] for name in expected}, expected)
    result = taken.train()
    assert sfpo_results(result)["engine_logp_diff"] < 1e-5, "the engine has them too"
    assert sfpo_results(result)["optimizer_steps_lifetime"] == 16, "and there is nothing else"
    taken.restore_from_path(stranger, weights_only=True)
    weights = taken.get_module_weights()
    assert_equal_weights({name: weights[name] for name in expected}, expected)
    assert not mark.exists()

    with pytest.raises(FileExistsError):  # so it would have been
        mark.mkdir()
        pickle.loads(pickles[0].read_bytes())


def test_a_pickle_in_place_of_any_file_is_never_opened_for_weights(
    checkpoint: Path, stranger: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    content = files_of(checkpoint)
    for name in content:
        (stranger / name).write_bytes(pickle.dumps(Malicious(mark)))
        if name != MANIFEST:
            write_manifest(stranger)
        try:
            weights = read_weights(stranger)
        except CheckpointError as error:
            assert name in str(error)
            assert name in (MANIFEST, *(str(MODULE / f"module_state.{x}") for x in SUFFIXES))
        else:
            assert weights.keys() == tensors_of(checkpoint).keys()
        (stranger / name).write_bytes(content[name])
    # Weights as a pickle, of a user's object or of an earlier release.
    write_manifest(stranger)
    (stranger / MODULE / "module_state.msgpack").unlink()
    (stranger / MODULE / "module_state.pkl").write_bytes(pickle.dumps(Malicious(mark)))
    write_manifest(stranger)
    with pytest.raises(CheckpointError, match=r"module_state\.pkl: holds the weights as a pickle"):
        read_weights(stranger)
    assert not mark.exists()


SUFFIXES = ("msgpack", "safetensors")


def test_weights_alone_need_a_config_of_the_users_own(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"config=None: must be the algorithm's config"):
        SFPO.from_checkpoint(checkpoint, weights_only=True)
