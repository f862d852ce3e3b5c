"""Weights by Ray's object store: put there once, read by every runner of a node in place."""

import ray
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from sfpo_rllib.env_runners.weights.published import (
    PublishedWeights,
    WeightHolders,
    WeightPublisher,
)


class ObjectStore(WeightPublisher):
    """Holds what is published in the object store, or in this process if all runners are there.

    From learners in other processes the weights do not come through this one: runners are given
    the learner's reference.
    """

    def __init__(self, *, has_remote_runners: bool) -> None:
        self._has_remote_runners = has_remote_runners

    @override(WeightPublisher)
    def publish(self, learners: WeightHolders) -> PublishedWeights:
        version, weights = learners.engine_weights()
        if self._has_remote_runners and not isinstance(weights, ray.ObjectRef):
            weights = ray.put(weights)
        return PublishedWeights(version, {COMPONENT_RL_MODULE: weights, WEIGHTS_SEQ_NO: version})
