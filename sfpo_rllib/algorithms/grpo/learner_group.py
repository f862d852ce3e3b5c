"""The group of learners: what the algorithm asks of them, and what becomes of it if one fails."""

import contextlib
import copy
import logging
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
import torch
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_OPTIMIZER,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.actor_manager import RemoteCallResults
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.typing import ModuleID, StateDict

from sfpo_rllib.algorithms.grpo.learner_actors import LearnerActors, LearnerError, learner_error
from sfpo_rllib.checkpoints import SavedAsTensors
from sfpo_rllib.core.checks import first_line
from sfpo_rllib.remote import values_of

logger = logging.getLogger(__name__)

MAX_RESTARTS = 2  # in a row, for one and the same call

_ADVICE = (
    "What was under way may be half done, and learners need each other: go on from the "
    "last checkpoint, by from_checkpoint() or, in this algorithm, restore_from_path()"
)
_BY_THEMSELVES = "; fault_tolerance(restart_failed_learners=True) would start them again"
_IN_VAIN = f"; they have been started again {MAX_RESTARTS} times for it"

T = TypeVar("T")


class GRPOLearnerGroup(LearnerGroup, SavedAsTensors):
    """RLlib's group, which says which learner failed and, if it may, starts all of them again.

    A learner that dies, or raises in an update, ends the group: some may have applied a part of the
    update. With `restart_failed_learners` the group holds the state after each update in host
    memory, starts new learners from it, and makes the call again that failed.

    Attributes:
        num_restarts: How often the learners have been started again.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._ctor_kwargs = kwargs
        self._local_failure: LearnerError | None = None
        self._last_state: dict[str, Any] | None = None
        self._in_call = False
        self.num_restarts = 0
        self._start()
        self._hold_state()

    @property
    def failure(self) -> LearnerError | None:
        """What ended the group, if anything has."""
        actors = getattr(self, "_worker_manager", None)
        return self._local_failure if actors is None else actors.failure

    def check(self) -> None:
        """Asks all learners for a sign of life.

        Raises:
            LearnerError: If one has failed, and they are not started again.
        """
        self._call(lambda: self.foreach_learner(lambda learner: None))

    @override(LearnerGroup)
    def update(self, **kwargs: Any) -> list[dict[str, Any]]:
        plain_update = super().update

        def update() -> list[dict[str, Any]]:
            with self._changing():
                results = plain_update(**kwargs)
            self._hold_state()
            return results

        return self._call(update)

    @override(LearnerGroup)
    def foreach_learner(self, func: Callable[..., Any], **kwargs: Any) -> RemoteCallResults:
        return self._call(partial(super().foreach_learner, func, **kwargs), looks=True)

    def ask_one(self, func: Callable[..., Any], number: int = 0, **kwargs: Any) -> Any:
        """What a function returns of one learner; what it raises there is raised here.

        Args:
            func: Takes the learner.
            number: Of the learner.
            kwargs: Of RLlib's `foreach_learner`.
        """
        ids = None if self.is_local else [number]
        (value,) = values_of(self.foreach_learner(func, remote_actor_ids=ids, **kwargs))
        return value

    @override(LearnerGroup)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        if not self._check_component(COMPONENT_LEARNER, components, not_components):
            return {}
        of_learner = (
            self._get_subcomponents(COMPONENT_LEARNER, components),
            self._get_subcomponents(COMPONENT_LEARNER, not_components),
        )

        plain_get_state = super().get_state

        def get_state() -> StateDict:
            with self.gathered(*of_learner):
                return plain_get_state(components, not_components=not_components, **kwargs)

        return self._call(get_state)

    @override(LearnerGroup)
    def set_state(self, state: StateDict) -> None:
        whole = {COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER} <= set(state.get(COMPONENT_LEARNER, ()))
        self._change(partial(super().set_state, state), whole=whole)

    @override(Checkpointable)
    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        plain_save = super().save_to_path

        def save_to_path() -> str:
            with self.gathered():
                return plain_save(path, **kwargs)

        return self._call(save_to_path)

    @override(Checkpointable)
    def restore_from_path(self, path: str | Path, **kwargs: Any) -> None:
        whole = kwargs.get("component") is None
        self._change(partial(super().restore_from_path, path, **kwargs), whole=whole)

    @override(LearnerGroup)
    def shutdown(self) -> None:
        if self.failure is not None:
            logger.error("The learners are shut down after a failure: %s", self.failure)
        super().shutdown()

    def get_module(self, module_id: ModuleID = DEFAULT_MODULE_ID) -> RLModule | None:
        """The module that is trained, not a copy; None if there is none of that name.

        Raises:
            ValueError: If learners are processes of their own, which hold it.
        """
        if self.is_remote:
            raise ValueError(
                f"num_learners={self.config.num_learners}: must be 0 for the module itself, which "
                "is in the learners' processes otherwise; get_module_weights() returns its "
                "weights, save_pretrained() writes a transformers folder"
            )
        modules = self.ask_one(lambda learner: learner.module)
        return modules[module_id].unwrapped() if module_id in modules else None

    def get_module_weights(self) -> dict[str, torch.Tensor]:
        """See `GRPO.get_module_weights`."""

        def copied(learner: Learner) -> dict[str, torch.Tensor]:
            weights = learner.module[DEFAULT_MODULE_ID].unwrapped().weights()
            return {name: tensor.cpu().clone() for name, tensor in weights.items()}

        def get_module_weights() -> dict[str, torch.Tensor]:
            with self.gathered(COMPONENT_RL_MODULE):
                return self.ask_one(copied)

        return self._call(get_module_weights, looks=True)

    def engine_weights(self) -> tuple[int, Any]:
        """What the engines load, as it is now.

        Returns:
            Its version, and the state of the module. Of learners in other processes that is a
            reference: what it refers to lies in the object store once, belongs to this process,
            and outlives them.

        Raises:
            FloatingPointError: If the weights are not finite.
        """

        def engine_weights() -> tuple[int, Any]:
            with self.gathered(COMPONENT_RL_MODULE, for_engines=True):
                # Two calls: what a call raises would be hidden in a reference.
                version = self.ask_one(lambda learner: learner.pack_weights())
                weights = self.ask_one(
                    lambda learner: learner.take_packed_weights(), return_obj_refs=True
                )
                self.check()  # so would be the death of the learner
            return version, weights

        return self._call(engine_weights, looks=True)

    def set_module_state(self, state: StateDict) -> None:
        """Has all learners load the module's weights, and nothing else."""
        held = ray.put({COMPONENT_RL_MODULE: {DEFAULT_MODULE_ID: state}})

        def set_module_state() -> None:
            values_of(self.foreach_learner(lambda learner: learner.set_state(ray.get(held))))

        self._change(set_module_state)

    def get_recent_batches(self) -> list[Any]:
        """The batches that the update rule keeps, each learner's share of them."""
        if not self.config.make_update_rule().history:
            return []
        return values_of(self.foreach_learner(lambda learner: learner.get_recent_batches()))

    def set_recent_batches(self, shares: list[Any]) -> None:
        """Goes on from `get_recent_batches()`, if there were as many learners."""
        if not self.config.make_update_rule().history:
            return
        num_learners = max(self.config.num_learners, 1)
        if shares and len(shares) != num_learners:
            logger.warning(
                "The checkpoint has the recent batches of %d learners, there are %d: the update "
                "rule's history starts empty.",
                len(shares),
                num_learners,
            )
        if len(shares) != num_learners:  # what has been seen here so far is not the checkpoint's
            shares = [[]] * num_learners

        def set_recent_batches() -> None:
            for i, share in enumerate(shares):
                self.ask_one(
                    lambda learner, batches: learner.set_recent_batches(batches), i, batches=share
                )

        self._change(set_recent_batches)

    @contextlib.contextmanager
    def gathered(
        self,
        components: str | Collection[str] | None = None,
        not_components: str | Collection[str] | None = None,
        *,
        for_engines: bool = False,
    ) -> Iterator[None]:
        """The first learner can be asked for weights and state in the body.

        Args:
            components: Of the learner that will be asked for; None: all.
            not_components: Of the learner that will not be.
            for_engines: Whether it is what engines load that will be asked for, and nothing else.
        """
        yield

    def _call(self, call: Callable[[], T], *, looks: bool = False) -> T:
        """Makes a call; if the group fails in it, starts it again and repeats the call.

        One that only looks may do so in this process after a failure, too, to see what is left.
        """
        if self._in_call or (looks and self.is_local):
            return call()
        self._in_call = True
        try:
            restarts = 0
            while True:
                try:
                    if self.failure is not None:
                        raise self.failure.with_traceback(None)
                    return call()
                except Exception:
                    if self.failure is None or self._last_state is None or restarts == MAX_RESTARTS:
                        raise
                self._restart()
                restarts += 1
        finally:
            self._in_call = False

    def _change(self, call: Callable[[], None], *, whole: bool = False) -> None:
        """Makes a call that sets the learners' state; all of it gives a failed group a new life."""
        if whole and self.failure is not None:
            self._start()

        def change() -> None:
            with self._changing():
                call()

        self._call(change)
        if not self._in_call:
            self._hold_state()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """An error in the body ends the group: the learners' state may be half of what it was."""
        if self.is_remote:
            self._worker_manager.changing = True
        try:
            yield
        except Exception as error:
            if self.is_local:
                self._local_failure = learner_error("the learner", error, self._advice)
                error.add_note(str(self._local_failure))
            raise
        finally:
            if self.is_remote:
                self._worker_manager.changing = False

    def _start(self) -> None:
        if self.failure is not None:
            super().shutdown()
            self._learner = None  # its memory is needed
        super().__init__(**self._ctor_kwargs)
        self._local_failure = None
        restarts = self.config.restart_failed_learners
        self._advice = _ADVICE + (_IN_VAIN if restarts else _BY_THEMSELVES)
        if self.is_remote:
            self._worker_manager = LearnerActors(self._workers, advice=self._advice)

    def _hold_state(self) -> None:
        """Holds the state that a restart would go on from."""
        if self.config.restart_failed_learners:
            state, recent = self.get_state(), self.get_recent_batches()
            if self.is_local:  # parts of it are the learner's own, which it goes on with
                state = copy.deepcopy(state)
            self._last_state = {"state": state, "recent_batches": recent}

    def _restart(self) -> None:
        """Starts new learners with the state after the last update.

        Raises:
            LearnerError: If they cannot be started.
        """
        assert self._last_state is not None
        what = first_line(self.failure)
        logger.warning("The learners are started again from the last update: %s", what)
        try:
            self._start()
            self.set_state(self._last_state["state"])
            self.set_recent_batches(self._last_state["recent_batches"])
        except Exception as error:
            raise LearnerError(f"the learners could not be started again: {error}") from error
        self.num_restarts += 1
