"""Weights on offer: what the driver knows of them, and what a runner makes of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from ray.rllib.core.learner.learner_group import LearnerGroup


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that runners can be told to take.

    Attributes:
        version: How many updates have made them.
        state: What a runner's `set_state` takes, or a reference to it. Nobody on the way looks
            into it.
    """

    version: int
    state: Any


class WeightPublisher(ABC):
    """A way for weights to travel. It knows the learners' end; the runners' is `set_state`."""

    @abstractmethod
    def publish(self, learners: LearnerGroup) -> PublishedWeights:
        """The learners' present weights, for any number of runners.

        For runners in other processes they stay as they are while they are held, whatever the
        learners do.
        """
