"""Weights by CUDA IPC: engines read them where a learner on the same GPU holds them."""

import logging
from typing import Any

import torch
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from sfpo_rllib.env_runners.weights.device_tensors import DeviceTensors
from sfpo_rllib.env_runners.weights.object_store import ObjectStore
from sfpo_rllib.env_runners.weights.published import (
    WEIGHT_OFFER,
    PublishedWeights,
    WeightHolders,
    WeightPublisher,
    on_learners,
)

logger = logging.getLogger(__name__)

Handles = list[dict[str, Any]]  # of each weight, by the GPU that it is on


class IPC(WeightPublisher):
    """Every learner holds a cast of the weights until all engines have read it.

    An engine that comes later gets the weights by the object store.
    """

    def __init__(self, *, store: ObjectStore) -> None:
        self._store = store
        self._holders: WeightHolders | None = None

    @override(WeightPublisher)
    def publish(self, learners: WeightHolders) -> PublishedWeights:
        self._holders = learners
        held = on_learners(learners, _hold)
        version, update_info, _ = held[0]
        by_learner: list[Handles] = [handles for _, _, handles in held]
        merged = [
            {gpu: handle for handles in of_weight for gpu, handle in handles.items()}
            for of_weight in zip(*by_learner, strict=True)
        ]
        offer = {
            "init_info": {None: {"packed": False}},
            "update_info": {**update_info, "ipc_handles": merged},
        }
        return PublishedWeights(
            version,
            {WEIGHT_OFFER: offer, WEIGHTS_SEQ_NO: version},
            alone=lambda: self._store.publish(learners).state,
        )

    @override(WeightPublisher)
    def settle(self) -> None:
        holders, self._holders = self._holders, None
        if holders is not None:
            on_learners(holders, _let_go)

    @override(WeightPublisher)
    def break_off(self) -> None:
        # All engines are sent the weights again before they sample, so none runs what it reads now.
        try:
            self.settle()
        except Exception as error:
            logger.warning("The learners may hold weights for engines still: %r", error)


# What follows runs in the learners.


def _hold(learner: Any) -> tuple[int, dict[str, Any], Handles]:
    source = DeviceTensors.of(learner)
    # Whole and contiguous; masters that need no cast are shared as they are.
    learner.held_weights = [tensor.detach().contiguous() for _, tensor in source]
    return source.version, source.update_info(), [_handle(t) for t in learner.held_weights]


def _handle(tensor: torch.Tensor) -> dict[str, Any]:
    """What another process on the tensor's GPU opens it by."""
    from torch.multiprocessing.reductions import reduce_tensor

    _, arguments = reduce_tensor(tensor)
    return {str(torch.cuda.get_device_properties(tensor.device).uuid): arguments}


def _let_go(learner: Any) -> None:
    learner.held_weights = []
    if torch.cuda.is_available():
        torch.cuda.ipc_collect()
