"""States that are nobody else's memory: what is taken stays, and what is given is left alone."""

import copy
import logging
from collections.abc import Collection
from typing import Any

import numpy as np
from ray.rllib.core import COMPONENT_METRICS_LOGGER
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.rllib.utils.typing import StateDict
from torch.utils._pytree import tree_map_only

from sfpo_rllib.checkpoints.components import SavedAsTensors

logger = logging.getLogger(__name__)


def with_own_metrics(state: StateDict) -> StateDict:
    """A state whose metrics are a copy: RLlib's are the logger's lists, which it goes on with."""
    if COMPONENT_METRICS_LOGGER not in state:
        return state
    return {**state, COMPONENT_METRICS_LOGGER: copy.deepcopy(state[COMPONENT_METRICS_LOGGER])}


def num_batches(state: StateDict, num_updates: int) -> int:
    """How many batches a learner's state has seen, by which the learning rate goes.

    States of early releases do not say it. They are taken by the updates of the weights, one a
    batch, with a warning.
    """
    if "num_batches" not in state:
        logger.warning(
            "num_batches, by which the learning rate goes, is not in the state: taken as %d, the "
            "number of updates that the weights have had.",
            num_updates,
        )
    return int(state.get("num_batches", num_updates))


class CheckpointedLearner(TorchLearner, SavedAsTensors):
    """A learner that goes on from a state, be it older than its own, and not in its memory."""

    @override(TorchLearner)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        return with_own_metrics(state)

    @override(TorchLearner)
    def set_state(self, state: StateDict) -> None:
        if WEIGHTS_SEQ_NO in state:
            self._weights_seq_no = -1  # RLlib leaves out weights that are older than the present
        super().set_state(with_own_metrics(state))
        self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, self._weights_seq_no)

    @override(TorchLearner)
    def _get_optimizer_state(self) -> StateDict:
        # Arrays that do not own their memory are the moments themselves.
        state = super()._get_optimizer_state()
        return tree_map_only(np.ndarray, lambda a: a if a.flags.owndata else a.copy(), state)

    @override(TorchLearner)
    def _set_optimizer_state(self, state: StateDict) -> None:
        # The optimizer would go on in the arrays that it is given.
        super()._set_optimizer_state(tree_map_only(np.ndarray, np.copy, state))
