"""Weights by Ray's object store: put there once, read by every runner of a node in place."""

from typing import Any

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from sfpo_rllib.env_runners.weights.published import PublishedWeights, WeightPublisher

_LEARNER_MODULE = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"


class ObjectStore(WeightPublisher):
    """Holds what is published in the object store, or in this process if all runners are there."""

    def __init__(self, *, has_remote_runners: bool) -> None:
        """Initializes it.

        Args:
            has_remote_runners: Whether a runner is a process of its own.
        """
        self._has_remote_runners = has_remote_runners

    @override(WeightPublisher)
    def publish(self, learners: LearnerGroup) -> PublishedWeights:
        state: Any = learners.get_state(components=_LEARNER_MODULE, inference_only=True)
        state = state[COMPONENT_LEARNER]
        version = int(state[WEIGHTS_SEQ_NO])
        return PublishedWeights(version, ray.put(state) if self._has_remote_runners else state)
