"""A trained algorithm and its checkpoint."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sfpo_rllib import SFPO, SFPOConfig


@pytest.fixture(scope="module")
def config(make_config: "Callable[..., SFPOConfig]") -> "SFPOConfig":
    """With a trigger whose window is not full, and a learning rate that falls."""
    from probes import ECHO

    return make_config(env=ECHO).training(
        minibatch_size=4,
        entropy_window=8,
        entropy_z_threshold=1e-3,
        lr_schedule="linear",
        lr_total_batches=10,
    )


@pytest.fixture(scope="module")
def algo(config: "SFPOConfig", ray_cluster: None) -> Iterator["SFPO"]:
    from probes import train

    built = config.copy(copy_frozen=False).build_algo()
    train(built, 2)
    yield built
    built.stop()


@pytest.fixture(scope="module")
def checkpoint(algo: "SFPO", tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(algo.save_to_path(tmp_path_factory.mktemp("saved") / "checkpoint"))


@pytest.fixture
def stranger(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy, to be tampered with."""
    return shutil.copytree(checkpoint, tmp_path / "stranger")
