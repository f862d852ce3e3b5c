"""What environments of one prompt and one reply have in common."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium

from sfpo_envs.problems.permutation import KeyedPermutation
from sfpo_envs.problems.streams import STREAM_LENGTH
from sfpo_envs.spaces import MAX_TEXT_CHARS, UnicodeText


class Problem(NamedTuple):
    """A prompt, which is a string or a list of chat messages, and the answer known to be right."""

    prompt: Any
    answer: str


class SourcedProblem(Problem):
    """A problem that remembers what it was made of."""

    source: Any

    def __new__(cls, prompt: Any, answer: str, source: Any = None) -> SourcedProblem:
        """Create the problem."""
        problem = super().__new__(cls, prompt, answer)
        problem.source = source
        return problem


class SingleTurnEnv(gymnasium.Env[Any, str], ABC):
    """An environment that shows one prompt, takes one reply and ends.

    The seed given to :meth:`reset` alone decides the problem. With ``N = num_problems``, the seeds
    ``e * N, ..., e * N + N - 1`` visit every problem exactly once, each epoch ``e`` in an order of
    its own. Handing out consecutive seeds therefore trains in whole epochs without replacement, and
    the seeds ``0, ..., N - 1`` evaluate every problem once.

    Subclasses give :attr:`num_problems`, :meth:`_problem_at` and :meth:`_grade`. The environments
    that :func:`gymnasium.make` returns are wrapped: reach what is defined here through
    ``env.unwrapped``.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (gymnasium declares it so)

    def __init__(self, shuffle_seed: int = 0) -> None:
        """Create the environment.

        Args:
            shuffle_seed: Chooses among the orders in which seeds visit the problems.
        """
        self.observation_space: gymnasium.Space[Any] = UnicodeText(MAX_TEXT_CHARS)
        self.action_space = UnicodeText(MAX_TEXT_CHARS)
        self._shuffle_seed = shuffle_seed
        self._current: Problem | None = None

    @property
    @abstractmethod
    def num_problems(self) -> int:
        """How many problems there are: the length of an epoch, in seeds."""

    @abstractmethod
    def _problem_at(self, index: int) -> Problem:
        """Return problem ``index`` of ``range(num_problems)``."""

    @abstractmethod
    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        """Return the reward of a reply and the ``info`` of the step."""

    def problem(self, seed: int) -> Problem:
        """Return the problem that ``reset(seed=seed)`` shows, without touching the episode.

        Args:
            seed: Any integer from 0 on.

        Raises:
            ValueError: ``seed`` is negative.
        """
        return self._problem_at(self._index_of(seed))

    def problem_id(self, seed: int) -> int | None:
        """Return which problem ``reset(seed=seed)`` shows, the same for each seed that shows it.

        Args:
            seed: Any integer from 0 on.

        Returns:
            A number of ``range(num_problems)``; ``None`` where there are so many, as in a stream
            without ``size``, that none is shown twice in practice.

        Raises:
            ValueError: ``seed`` is negative.
        """
        index = self._index_of(seed)
        return index if self.num_problems < STREAM_LENGTH else None

    def _index_of(self, seed: int) -> int:
        if seed < 0:
            raise ValueError(f"seed={seed}: must not be negative")
        epoch, position = divmod(operator.index(seed), self.num_problems)
        return KeyedPermutation(self.num_problems, "epoch", self._shuffle_seed, epoch)(position)

    def problems(self) -> Iterator[Problem]:
        """Yield every problem once, in the order of the seeds ``0, ..., num_problems - 1``."""
        return (self.problem(seed) for seed in range(self.num_problems))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Decides the problem; ``None`` draws a seed from the environment's own generator.
            options: Not used.

        Returns:
            The prompt and an empty ``info``.
        """
        super().reset(seed=seed, options=options)
        if seed is None:
            seed = int(self.np_random.integers(2**63))
        self._current = self.problem(seed)
        return self._current.prompt, {}

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Grade the reply and end the episode.

        Args:
            action: The reply to the prompt; any string.

        Returns:
            An empty observation, the reward, ``True`` (terminated), ``False`` (truncated) and an
            ``info`` with ``is_success`` (bool) and ``metrics`` (numbers, meant to be averaged).

        Raises:
            RuntimeError: No episode is under way.
        """
        if self._current is None:
            raise RuntimeError("no episode is under way: call reset() before step()")
        reward, info = self._grade(action, self._current.answer)
        nothing = type(self._current.prompt)()  # no text, or no messages
        self._current = None
        return nothing, reward, True, False, info
