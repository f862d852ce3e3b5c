"""Algorithms whose checkpoints are whole, checked, and can be taken from strangers."""

import os
import pickle
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from pyarrow.fs import LocalFileSystem
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.checkpoints import places, states
from sfpo_rllib.checkpoints.components import SavedAsTensors
from sfpo_rllib.checkpoints.manifest import (
    MANIFEST,
    CheckpointError,
    announcement,
    verify,
    verify_part,
)
from sfpo_rllib.checkpoints.replace import new_checkpoint

# Where the weights are.
_MODULE = "/".join(
    (COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID)
)

# The folder that from_checkpoint() has compared with its manifest, and then restores from.
_verified: ContextVar[Path | None] = ContextVar("_verified", default=None)


class CheckpointedAlgorithm(Algorithm, SavedAsTensors):
    """Saves all or nothing, and loads what was saved or nothing."""

    @override(Algorithm)
    def get_metadata(self) -> dict[str, Any]:
        return {**super().get_metadata(), **announcement()}

    @override(SavedAsTensors)
    def save_to_path(
        self,
        path: places.PathLike | None = None,
        *,
        state: StateDict | None = None,
        filesystem: Any = None,
        use_msgpack: bool = False,
    ) -> str:
        """Saves a checkpoint, in place of the one that is there, or raises and leaves that alone.

        Args:
            path: A local path, also a relative one; a URI; with `filesystem` a path there. None: a
                new folder for temporary files.
            state: To be saved instead of the present one.
            filesystem: pyarrow's or fsspec's.
            use_msgpack: Whether RLlib's own components write msgpack instead of pickles.

        Returns:
            What `from_checkpoint` takes.

        Raises:
            CheckpointError: If it could not be saved, with the cause.
        """
        path = path or os.path.join(tempfile.gettempdir(), str(uuid.uuid4()))
        where, folder = places.resolve(path, filesystem)
        with new_checkpoint(where, folder) as new:
            super().save_to_path(new, state=state, use_msgpack=use_msgpack)
        return folder if places.is_local(where) or filesystem is not None else str(path)

    @override(Algorithm)
    def restore_from_path(
        self,
        path: places.PathLike,
        *,
        component: str | None = None,
        filesystem: Any = None,
        weights_only: bool = False,
        **kwargs: Any,
    ) -> None:
        """Restores a checkpoint that is what was saved.

        Args:
            path: The checkpoint, as in `save_to_path`, or one of Tune's.
            component: Path to the one component that `path` is the folder of.
            filesystem: pyarrow's or fsspec's.
            weights_only: Whether to take the weights and nothing else. Nothing is unpickled then,
                so that the checkpoint may be a stranger's.
            kwargs: For the components.

        Raises:
            CheckpointError: If it is damaged, or was not saved to its end.
        """
        if weights_only:
            self._set_module_state(read_weights(path, filesystem))
            return
        only = {} if component is None else {"component": component}
        with _checked(path, filesystem, component) as folder:
            self._before_restore()
            super().restore_from_path(folder, **only, **kwargs)

    def _before_restore(self) -> None:
        """Lets go of what is not the checkpoint's, which is there and whole."""

    def _set_module_state(self, state: StateDict) -> None:
        """Has all learners take the state of the module."""
        raise NotImplementedError

    @classmethod
    @override(Algorithm)
    def from_checkpoint(
        cls,
        path: places.PathLike,
        filesystem: Any = None,
        *,
        weights_only: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Makes an algorithm from a checkpoint that is what was saved.

        Args:
            path: The checkpoint, as in `save_to_path`, or one of Tune's.
            filesystem: pyarrow's or fsspec's.
            weights_only: Whether to take the weights and nothing else, into an algorithm by
                `config`. Nothing is unpickled then, so that the checkpoint may be a stranger's.
            kwargs: Arguments of the algorithm in place of the saved ones, e.g. `config`.

        Raises:
            CheckpointError: If it is damaged, or was not saved to its end.
        """
        if not weights_only:
            with _checked(path, filesystem) as folder:
                token = _verified.set(folder)
                try:
                    return super().from_checkpoint(str(folder), LocalFileSystem(), **kwargs)
                finally:
                    _verified.reset(token)
        config = kwargs.get("config")
        if not isinstance(config, AlgorithmConfig):
            raise ValueError(
                f"config={config}: must be the algorithm's config with weights_only=True, as the "
                "checkpoint's is a pickle, which can run code"
            )
        weights = read_weights(path, filesystem)  # before anything is started
        algo = config.build_algo()
        try:
            algo._set_module_state(weights)
        except BaseException:
            algo.stop()
            raise
        return algo


@contextmanager
def _checked(
    path: places.PathLike, filesystem: Any, component: str | None = None
) -> Iterator[Path]:
    """A checkpoint, or a component of one, on this machine, compared with its manifest."""
    filesystem, place = places.resolve(path, filesystem)
    places.recover(filesystem, place)
    with places.on_this_machine(filesystem, place) as folder:
        try:
            if component is not None:
                whole = place.removesuffix(f"/{component}")
                if MANIFEST in places.names_in(filesystem, whole):
                    verify_part(filesystem, whole, component)
            elif folder != _verified.get():
                verify(folder)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), place)) from error
        yield folder


def read_weights(path: places.PathLike, filesystem: Any = None) -> dict[str, Any]:
    """The weights of a checkpoint, which may be a stranger's: nothing is unpickled.

    Args:
        path: The checkpoint; see `places.resolve`.
        filesystem: pyarrow's or fsspec's, that `path` is in.

    Returns:
        The module's state: of ours the weights as numpy arrays, float32, under transformers' names.

    Raises:
        CheckpointError: If it is damaged, or has the weights as a pickle.
    """
    filesystem, folder = places.resolve(path, filesystem)
    verify(folder, filesystem)
    with places.on_this_machine(filesystem, f"{folder}/{_MODULE}") as module:
        if not states.is_written(module, RLModule.STATE_FILE_NAME):
            pickled = f"{folder}/{_MODULE}/{RLModule.STATE_FILE_NAME}.pkl"
            raise CheckpointError(
                f"{pickled}: holds the weights as a pickle, which can run code and is not opened; "
                "whoever trusts it restores the checkpoint and saves it again"
            )
        state: dict[str, Any] = states.read(module, RLModule.STATE_FILE_NAME, unpickle=False)
    return state


def read_config(path: str | Path) -> AlgorithmConfig:
    """The config that an algorithm was saved with. It is unpickled, which can run any code.

    Args:
        path: The checkpoint, a local folder.
    """
    with open(Path(path) / Checkpointable.CLASS_AND_CTOR_ARGS_FILE_NAME, "rb") as file:
        (state, *_), _ = pickle.load(file)["ctor_args_and_kwargs"]
    return AlgorithmConfig.from_state(state)
