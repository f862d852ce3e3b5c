"""Components that write their states as msgpack and safetensors, under RLlib's Checkpointable.

The folders are RLlib's: one a component, with its metadata and a pickle of its class and arguments.
Ours differ in the state. RLlib's own components keep theirs, and what was saved by an earlier
release, pickles throughout, is read.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from pyarrow.fs import LocalFileSystem
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.actor_manager import FaultTolerantActorManager
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import (
    CHECKPOINT_VERSION_LEARNER_AND_ENV_RUNNER,
    Checkpointable,
)
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.checkpoints import places, states
from sfpo_rllib.checkpoints.manifest import MANIFEST, METADATA, CheckpointError

Files = dict[str, np.ndarray]  # their bytes, by their paths in a folder


class SavedAsTensors(Checkpointable):
    """A component whose own state is no pickle.

    To the right of RLlib's class, whose `restore_from_path` may do more and then calls this one.
    """

    @override(Checkpointable)
    def save_to_path(
        self,
        path: places.PathLike | None = None,
        *,
        state: StateDict | None = None,
        filesystem: Any = None,
        use_msgpack: bool = False,
    ) -> str:
        """Saves this component and those below it.

        Args:
            path: The folder; see `places.resolve`. None: a new one for temporary files.
            state: To be saved instead of the present one.
            filesystem: pyarrow's or fsspec's, that `path` is in.
            use_msgpack: Whether RLlib's own components write msgpack instead of pickles.

        Returns:
            The folder.
        """
        filesystem, folder = places.resolve(path or tempfile.mkdtemp(), filesystem)
        if places.is_local(filesystem):
            _save(self, Path(folder), state, use_msgpack)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                _save(self, Path(temporary), state, use_msgpack)
                places.upload(Path(temporary), filesystem, folder, first=METADATA, last=MANIFEST)
        return folder

    @override(Checkpointable)
    def restore_from_path(
        self,
        path: places.PathLike,
        *,
        component: str | None = None,
        filesystem: Any = None,
        **kwargs: Any,
    ) -> None:
        """Restores this component and those below it.

        Args:
            path: The folder; see `places.resolve`.
            component: Path to the one component, below this one, that `path` is the folder of.
            filesystem: pyarrow's or fsspec's, that `path` is in.
            kwargs: For the components below.

        Raises:
            CheckpointError: If a part is missing or cannot be read.
        """
        with places.on_this_machine(*places.resolve(path, filesystem)) as folder:
            _restore(self, folder, component, kwargs)


def _save(
    component: Checkpointable, folder: Path, state: StateDict | None, use_msgpack: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "checkpoint_version": str(CHECKPOINT_VERSION_LEARNER_AND_ENV_RUNNER),
        **component.get_metadata(),
    }
    (folder / component.METADATA_FILE_NAME).write_text(json.dumps(metadata))
    with open(folder / component.CLASS_AND_CTOR_ARGS_FILE_NAME, "wb") as file:
        arguments = component.get_ctor_args_and_kwargs()
        cloudpickle.dump({"class": type(component), "ctor_args_and_kwargs": arguments}, file)
    children = component.get_checkpointable_components()
    for name, child in children:
        if state is not None and name not in state:
            continue
        given = None if state is None else state[name]
        if isinstance(child, FaultTolerantActorManager):
            _save_first_actor(child, folder / name, given, use_msgpack)
        else:
            # The parent knows best, e.g. that a runner's weights are not saved.
            if given is None and not isinstance(child, LearnerGroup):
                given = component.get_state(components=name)[name]
            child.save_to_path(
                folder / name,
                state=None if given is None else dict(given),  # RLlib takes parts out of it
                filesystem=LocalFileSystem(),
                use_msgpack=use_msgpack,
            )
    names = [name for name, _ in children]
    if state is None:
        own = component.get_state(not_components=names)
    else:
        own = {key: value for key, value in state.items() if key not in names}
    if isinstance(component, SavedAsTensors):
        states.write(folder, component.STATE_FILE_NAME, own)
    else:
        with open(folder / f"{component.STATE_FILE_NAME}.pkl", "wb") as file:
            cloudpickle.dump(own, file)


def _restore(
    component: Checkpointable, folder: Path, only: str | None, kwargs: dict[str, Any]
) -> None:
    for name, child in component.get_checkpointable_components():
        rest = None
        if only is None:
            part = folder / name
            if not part.is_dir():
                if isinstance(child, EnvRunner | ConnectorV2):  # saved with other runners
                    continue
                raise CheckpointError(f"{part}: is missing; the checkpoint is damaged")
        elif only == name or only.startswith(f"{name}/"):
            part, rest = folder, only[len(name) + 1 :] or None
        else:
            continue
        if isinstance(child, FaultTolerantActorManager):
            _restore_actors(child, part, rest, kwargs)
        else:
            child.restore_from_path(part, component=rest, filesystem=LocalFileSystem(), **kwargs)
    if only is None:
        if states.is_written(folder, component.STATE_FILE_NAME):
            state = states.read(folder, component.STATE_FILE_NAME)
        else:
            state = states.read_pickle(folder / f"{component.STATE_FILE_NAME}.pkl")
        component.set_state(state)


def _save_first_actor(
    actors: FaultTolerantActorManager, folder: Path, state: StateDict | None, use_msgpack: bool
) -> None:
    """Has one of several equal components save itself: into the folder, or sent from its node."""
    ids = actors.healthy_actor_ids()
    if not ids:
        raise CheckpointError(f"{folder.name}: none is alive to save its state")
    given, here = ray.put(state), _node()

    def save(component: Checkpointable) -> Files | None:
        arguments = {"state": ray.get(given), "use_msgpack": use_msgpack}
        if _node() == here:
            component.save_to_path(folder, **arguments)
            return None
        with tempfile.TemporaryDirectory() as temporary:
            component.save_to_path(temporary, **arguments)
            return _pack(Path(temporary))

    (files,) = _values(actors, save, f"{folder.name} could not write its state", ids[:1])
    if files is not None:
        _unpack(files, folder)


def _restore_actors(
    actors: FaultTolerantActorManager, folder: Path, only: str | None, kwargs: dict[str, Any]
) -> None:
    """Has all components restore themselves, those of other nodes from files that are sent."""
    here, ids = _node(), actors.healthy_actor_ids()
    what = f"{folder.name} could not restore its state"
    nodes = _values(actors, lambda component: _node(), what, ids)
    files = ray.put(_pack(folder)) if set(nodes) - {here} else None

    def restore(component: Checkpointable) -> None:
        if _node() == here:
            component.restore_from_path(folder, component=only, **kwargs)
            return
        with tempfile.TemporaryDirectory() as temporary:
            _unpack(ray.get(files), Path(temporary))
            component.restore_from_path(temporary, component=only, **kwargs)

    _values(actors, restore, what, ids)


def _values(
    actors: FaultTolerantActorManager, function: Callable[[Any], Any], what: str, ids: list[int]
) -> list[Any]:
    """The values of calls on actors. RLlib itself would not mind those that fail."""
    values = []
    results = list(actors.foreach_actor(function, remote_actor_ids=ids))
    for result in results:
        if not result.ok and not isinstance(result.get(), RayActorError):
            # RLlib has taken it out of service, and others would wait for it in the next update.
            actors.set_actor_state(result.actor_id, healthy=True)
    for result in results:
        if not result.ok:
            error = getattr(result.get(), "cause", result.get())  # without its remote traceback
            raise CheckpointError(f"{what}: {type(error).__name__}: {error}") from result.get()
        values.append(result.get())
    if len(values) < len(ids):
        raise CheckpointError(f"{what}: {len(values)} of {len(ids)} answered")
    return values


def _node() -> str:
    """The id of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def _pack(folder: Path) -> Files:
    """The files of a folder, as arrays, which the object store does not copy."""
    names = places.files_below(LocalFileSystem(), str(folder))
    return {name: np.fromfile(folder / name, np.uint8) for name in names}


def _unpack(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content.tofile(folder / name)
