"""The newest weights, where runners look for them between two steps of their engines.

What is sent to a runner waits behind the job that it is at. A mailbox is looked into instead.
"""

import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sfpo_rllib.env_runners.weights.published import PublishedWeights

# A look is a small message to the mailbox's process: steps of an engine may be shorter.
LOOK_EVERY_S = 0.05

Posted = tuple[int, list[Any]]  # number of the post, and its state or a reference to it


class _Box:
    """What is in the mailbox; an actor. References stay what they are inside of lists."""

    def __init__(self) -> None:
        self._posted: Posted = (0, [])

    def post(self, state: list[Any]) -> None:
        """Replaces what was posted before."""
        self._posted = (self._posted[0] + 1, state)

    def newer_than(self, number: int) -> Posted | None:
        """What was posted last, if it is newer than the post of this number."""
        return self._posted if self._posted[0] > number else None


class Mailbox:
    """The driver's end, beside which its process is.

    Attributes:
        box: The runners' end, for a `MailboxReader`.
    """

    def __init__(self) -> None:
        """Starts the process."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.box: Any = ray.remote(_Box).options(num_cpus=0, scheduling_strategy=here).remote()

    def post(self, weights: PublishedWeights) -> None:
        """Puts weights there, and returns when they are."""
        ray.get(self.box.post.remote([weights.state]))

    def close(self) -> None:
        """Ends the process."""
        ray.kill(self.box)


class MailboxReader:
    """A runner's look into a `Mailbox.box`: what it has seen once it is not shown again."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._number = 0
        self._asked: ray.ObjectRef | None = None
        self._next_look = 0.0

    def take(self, *, wait: bool) -> Any:
        """The state that was posted last, None if it has been seen.

        Args:
            wait: Whether to wait for the answer. Without, it is that to an earlier look, and None
                where there is none yet.
        """
        if wait:
            self._asked = None  # what was asked for before may be older
        if self._asked is None:
            if not wait and time.monotonic() < self._next_look:
                return None
            self._asked = self._box.newer_than.remote(self._number)
        if not wait and not ray.wait([self._asked], timeout=0)[0]:
            return None
        posted: Posted | None = ray.get(self._asked)
        self._asked, self._next_look = None, time.monotonic() + LOOK_EVERY_S
        if posted is None:
            return None
        self._number, (state,) = posted
        return ray.get(state) if isinstance(state, ray.ObjectRef) else state
