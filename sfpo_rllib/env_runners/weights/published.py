"""Weights on offer: what the driver knows of them, and what a runner makes of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ray.rllib.utils.actor_manager import CallResult

from sfpo_rllib.remote import values_of

# In a runner's state, instead of the weights: how its engine gets them from the learners.
WEIGHT_OFFER = "weight_offer"


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that runners can be told to take.

    Attributes:
        version: How many updates have made them.
        state: What a runner's `set_state` takes; weights in it may be a reference. Nobody on the
            way looks into it.
        alone: Makes the state for a runner that takes them later than the others, if `state` is
            for all of them at once.
    """

    version: int
    state: Any
    alone: Callable[[], Any] | None = None

    def state_for_one(self) -> Any:
        """What a runner's `set_state` takes at any time."""
        return self.state if self.alone is None else self.alone()


class WeightHolders(Protocol):
    """The learners, as far as their weights go."""

    def engine_weights(self) -> tuple[int, Any]:
        """The version of what engines load, and the module's state or a reference to it."""

    def foreach_learner(self, func: Callable[..., Any], **kwargs: Any) -> Iterable[CallResult]:
        """Calls a function with every learner."""


class WeightPublisher(ABC):
    """A way for weights to travel. It knows the learners' end; the runners' is `set_state`."""

    @abstractmethod
    def publish(self, learners: WeightHolders) -> PublishedWeights:
        """The learners' present weights, for any number of runners.

        For runners in other processes they stay as they are while they are held, whatever the
        learners do.
        """

    def settle(self) -> None:  # noqa: B027
        """Called when all runners have taken what was published, or are lost.

        Raises:
            Exception: If the learners' end has failed.
        """

    def break_off(self) -> None:  # noqa: B027
        """Called instead of `settle()` if an interrupt or a failed load came before it.

        Raises nothing: what was in the way is raised already.
        """

    def close(self) -> None:  # noqa: B027
        """Called when nothing will be published any more."""

    def forget_members(self) -> None:  # noqa: B027
        """Called when a runner has been started anew: nothing that it was told holds any more."""


def on_learners(learners: WeightHolders, call: Callable[[Any], Any], **kwargs: Any) -> list[Any]:
    """What a function returns of every learner, in order.

    Args:
        learners: The learners.
        call: Takes a learner.
        kwargs: Of RLlib's `foreach_learner`.

    Raises:
        Exception: What it raised in the first that failed.
    """
    return values_of(learners.foreach_learner(call, **kwargs))
