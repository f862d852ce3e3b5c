"""What a grade is worth: reward presets, and the punishment of overlong replies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from sfpo_envs.graders import Grade, Verdict
from sfpo_envs.options import instead, refuse_unknown

RewardFunction = Callable[[Grade, str], float]
"""Returns what a grade of a reply is worth, of the grade and the reply."""

REWARDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "correct": {Verdict.CORRECT: 1.0},
        # The published code of SFPO pays for the format.
        "official_repo": {Verdict.CORRECT: 1.0, Verdict.WRONG: 0.1},
        "dapo": {verdict: 1.0 if verdict is Verdict.CORRECT else -1.0 for verdict in Verdict},
    }
)
"""The presets: what each verdict is worth, 0 where it is not named."""


@dataclass(frozen=True)
class VerdictReward:
    """A reward that only depends on the verdict.

    Attributes:
        pays: What a verdict is worth, 0 where it is not named.
    """

    pays: Mapping[str, float]

    def __call__(self, grade: Grade, reply: str) -> float:
        """Return the reward of a grade."""
        return self.pays.get(grade.verdict, 0.0)


def make_reward(reward: str | Mapping[str, float] | RewardFunction) -> RewardFunction:
    """Make a reward function.

    Args:
        reward: A key of :data:`REWARDS`, what each verdict is worth by its name (0 where it is not
            named), or a function of the grade and the reply.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(reward, str):
        if reward not in REWARDS:
            raise ValueError(f"reward={reward!r}: {instead(reward, REWARDS)}")
        return VerdictReward(dict(REWARDS[reward]))
    if isinstance(reward, Mapping):
        for name, value in reward.items():
            if name not in list(Verdict):
                raise ValueError(f"reward: {name!r} is no verdict; {instead(name, Verdict)}")
            if not _is_finite(value):
                raise ValueError(f"reward={{{str(name)!r}: {value!r}}}: must be a finite number")
        return VerdictReward({str(name): float(value) for name, value in reward.items()})
    if not callable(reward):
        raise ValueError(
            f"reward={reward!r}: must be a name, a dict of verdicts and numbers, or a function of "
            "grade and reply"
        )
    return reward


@dataclass(frozen=True)
class Overlong:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13).

    Nothing up to ``max_length - buffer``; from there it grows evenly, to ``factor`` at
    ``max_length`` and beyond.

    Attributes:
        max_length: Length from which the punishment is whole.
        buffer: How much shorter a reply is that is not punished.
        factor: The whole punishment. 1 is DAPO's, whose rewards are -1 and 1.
        count: Measures a reply; :func:`len` counts characters, a tokenizer's function tokens.
    """

    max_length: int
    buffer: int
    factor: float = 1.0
    count: Callable[[str], int] = len

    def __post_init__(self) -> None:
        if not (_is_finite(self.max_length) and self.max_length > 0):
            raise ValueError(f"max_length={self.max_length!r}: must be a positive number")
        if not (_is_finite(self.buffer) and 0 < self.buffer <= self.max_length):
            raise ValueError(
                f"buffer={self.buffer!r}: must be positive and at most max_length, "
                f"{self.max_length}"
            )
        if not (_is_finite(self.factor) and self.factor >= 0):
            raise ValueError(f"factor={self.factor!r}: must be a number from 0 on")
        if not callable(self.count):
            raise ValueError(f"count={self.count!r}: must be a function of a reply")

    def penalty(self, length: float) -> float:
        """Return what is added to the reward of a reply of some length: 0, or less."""
        excess = length - (self.max_length - self.buffer)
        return -self.factor * min(1.0, max(0.0, excess / self.buffer))


def make_overlong(options: Mapping[str, Any] | None) -> Overlong | None:
    """Make the punishment of its options, none of ``None``.

    Raises:
        ValueError: An option is unknown, missing or out of its range.
    """
    if options is None:
        return None
    if not isinstance(options, Mapping) or not {"max_length", "buffer"} <= set(options):
        raise ValueError(f"overlong={options!r}: must be a dict with max_length and buffer")
    try:
        refuse_unknown(options, Overlong)
        return Overlong(**options)
    except ValueError as error:
        raise ValueError(f"overlong: {error}") from error


def reward_range(reward: RewardFunction, overlong: Overlong | None) -> tuple[float, float]:
    """Return the lowest and the highest reward there can be; of a function, any."""
    if not isinstance(reward, VerdictReward):
        return -math.inf, math.inf
    worth = [reward(Grade(verdict), "") for verdict in Verdict]
    return min(worth) - (0.0 if overlong is None else overlong.factor), max(worth)


class OverlongPenalty(gymnasium.Wrapper[Any, str, Any, str], RecordConstructorArgs):
    """Adds the soft overlong punishment to the reward of each step of an environment.

    ``info["metrics"]["overlong_penalty"]`` has what was added.
    """

    def __init__(
        self, env: gymnasium.Env[Any, str], count_key: str | None = None, **options: Any
    ) -> None:
        """Wrap an environment.

        Args:
            env: The environment.
            count_key: Key of ``info`` with the length, where another wrapper counts; ``None``
                measures the action with ``count``.
            **options: Those of :class:`Overlong`.

        Raises:
            ValueError: An option is unknown, missing or out of its range.
        """
        RecordConstructorArgs.__init__(self, count_key=count_key, **options)
        gymnasium.Wrapper.__init__(self, env)
        overlong = make_overlong(options)
        assert overlong is not None
        self._overlong = overlong
        self._count_key = count_key

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment and punish what is overlong."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        key = self._count_key
        length = self._overlong.count(action) if key is None else info[key]
        penalty = self._overlong.penalty(length)
        metrics = {**info.get("metrics", {}), "overlong_penalty": penalty}
        info = {**info, "metrics": metrics}
        return observation, float(reward) + penalty, terminated, truncated, info


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
