"""Single groups of earlier batches: kept for so many batches, drawn by priority."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Batch = TypeVar("Batch")
Group = TypeVar("Group")


@dataclass(frozen=True)
class GroupReplay:
    """How groups are replayed.

    Attributes:
        max_age: For so many batches a group is kept.
        exponent: A group is drawn in proportion to its priority to this power; 0: all alike.
    """

    max_age: int
    exponent: float = 1.0


class Groups(Protocol[Batch]):
    """What a learner knows of the groups of its batches.

    Attributes:
        count: Groups of a batch.
    """

    count: int

    def split(self, batch: Batch) -> Iterable[tuple[Any, float]]:
        """The groups of a batch, each with its mean |advantage|."""
        ...

    def join(self, groups: Sequence[Any], like: Batch) -> Batch:
        """A batch of groups, cut as another one is; there may be none."""
        ...


@dataclass(frozen=True)
class Kept(Generic[Group]):
    """A group that is kept.

    Attributes:
        group: The group.
        priority: Its mean |advantage|, above 0.
        batch: The number of the batch that it was part of.
    """

    group: Group
    priority: float
    batch: int


class GroupHistory(Generic[Group]):
    """The groups of the last batches that carry a gradient.

    What is drawn depends on the priorities, the number of batches so far and that of the draw:
    never on timing, and no random state is carried along.

    Attributes:
        kept: The groups, oldest first.
        num_batches: How many have been added so far.
    """

    def __init__(self, settings: GroupReplay) -> None:
        """Initializes an empty history."""
        self.kept: list[Kept[Group]] = []
        self.num_batches = 0
        self._max_age = settings.max_age
        self._exponent = settings.exponent

    def add(self, groups: Iterable[tuple[Group, float]]) -> None:
        """Adds a batch, by group and priority, and lets go of what has become too old.

        Groups of priority 0, whose advantages are all 0, are not kept.
        """
        number = self.num_batches
        self.num_batches += 1
        oldest = self.num_batches - self._max_age
        self.kept = [kept for kept in self.kept if kept.batch >= oldest]
        if self._max_age:
            self.kept += [Kept(group, p, number) for group, p in groups if p > 0.0]

    def draw(self, count: int, nth: int) -> list[Group]:
        """Draws groups without replacement, all if there are no more.

        Args:
            count: How many.
            nth: Of the draws since the last batch was added.

        Returns:
            The groups, oldest first.
        """
        # The greatest of log(weight) + Gumbel noise are a draw without replacement by weight.
        chance = random.Random(f"{self.num_batches} {nth}")
        keys = [self._exponent * math.log(kept.priority) + _gumbel(chance) for kept in self.kept]
        order = sorted(range(len(keys)), key=lambda i: keys[i], reverse=True)[:count]
        return [self.kept[i].group for i in sorted(order)]

    def state(self) -> dict[str, Any]:
        """All of it, to go on from."""
        return {"num_batches": self.num_batches, "kept": [vars(kept) for kept in self.kept]}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from `state()`."""
        self.num_batches = state["num_batches"]
        self.kept = [Kept(**kept) for kept in state["kept"]]


def _gumbel(chance: random.Random) -> float:
    """Standard Gumbel noise."""
    return -math.log(max(-math.log(1.0 - chance.random()), 5e-324))
