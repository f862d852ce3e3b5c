"""Environments whose problems are drawn by number, without an end or as many as asked for."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, cast

from sfpo_envs.problems.streams import ItemT, ProblemStream
from sfpo_envs.single_turn import Problem, SingleTurnEnv, SourcedProblem


class StreamEnv(SingleTurnEnv, Generic[ItemT]):
    """An environment whose problems come from a :class:`ProblemStream`.

    Subclasses give :meth:`_pose` and :meth:`_grade_item`.
    """

    def __init__(self, stream: ProblemStream[ItemT], shuffle_seed: int) -> None:
        """Create the environment.

        Args:
            stream: The problems.
            shuffle_seed: Chooses the order in which seeds visit them.
        """
        super().__init__(shuffle_seed)
        self._stream = stream

    @property
    def num_problems(self) -> int:
        """How many problems this split has: ``size``, or :data:`STREAM_LENGTH` without one."""
        return self._stream.length

    @abstractmethod
    def _pose(self, item: ItemT) -> tuple[str, str]:
        """Return prompt and answer of an item."""

    @abstractmethod
    def _grade_item(self, reply: str, item: ItemT) -> tuple[float, dict[str, Any]]:
        """Return the reward of a reply and the ``info`` of the step."""

    def _problem_at(self, index: int) -> Problem:
        item = self._stream[index]
        prompt, answer = self._pose(item)
        return SourcedProblem(prompt, answer, item)

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        return self._grade_item(reply, self._item)

    @property
    def _item(self) -> ItemT:
        """The item of the episode under way."""
        return cast(SourcedProblem, self._current).source
