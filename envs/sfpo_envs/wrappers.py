"""Wrappers over text environments: limits, shaped rewards and formats.

What they have to tell is in ``info["metrics"]`` of the last step, and so among the averages of a
training run.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from sfpo_envs.spaces import texts

TextEnv = gymnasium.Env[Any, str]
Info = dict[str, Any]
Stepped = tuple[Any, float, bool, bool, Info]


def _with_metric(info: Info, name: str, value: float) -> Info:
    """Return the info with one more metric; what is there already stays."""
    return {**info, "metrics": {name: value, **info.get("metrics", {})}}


class _Limit(gymnasium.Wrapper[Any, str, Any, str], RecordConstructorArgs):
    """Cuts an episode when something is used up.

    An episode that is cut is truncated; if it does not say so itself, it is no success.
    """

    _metric: str

    def __init__(self, env: TextEnv, limit: int) -> None:
        gymnasium.Wrapper.__init__(self, env)
        self._limit = limit
        self._used = 0

    @abstractmethod
    def _cost(self, observation: Any, reply: str | None) -> int:
        """Return what an observation, and the reply before it if there was one, use up."""

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Reset the environment and what is used."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._used = self._cost(observation, None)
        return observation, info

    def step(self, action: str) -> Stepped:
        """Step the environment, and cut the episode if it goes on beyond the limit."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = float(reward)
        self._used += self._cost(observation, action)
        over = terminated or truncated
        cut = not over and self._used >= self._limit
        if cut:
            info = {"is_success": False, **info}
        if cut or over:
            info = _with_metric(info, self._metric, float(cut))
        return observation, reward, terminated, truncated or cut, info


class TurnLimit(_Limit):
    """Truncates an episode after a number of turns, unless it ends by itself.

    The metric ``turn_limit`` is 1.0 if it was cut, else 0.0.

    Example:
        >>> env = TurnLimit(gymnasium.make("sfpo_envs:sfpo/Arithmetic-v0"), max_turns=4)
    """

    _metric = "turn_limit"

    def __init__(self, env: TextEnv, max_turns: int) -> None:
        """Create the wrapper.

        Args:
            env: A text environment.
            max_turns: Most replies in an episode, at least 1.

        Raises:
            ValueError: ``max_turns`` is out of its range.
        """
        RecordConstructorArgs.__init__(self, max_turns=max_turns)
        if max_turns < 1:
            raise ValueError(f"max_turns={max_turns}: must be at least 1")
        super().__init__(env, max_turns)

    def _cost(self, observation: Any, reply: str | None) -> int:
        return 0 if reply is None else 1


class TokenLimit(_Limit):
    """Truncates an episode when observations and replies are so long together.

    The reply that reaches the limit is still judged. The metric ``token_limit`` is 1.0 if the
    episode was cut, else 0.0.

    Example:
        >>> env = TokenLimit(env, 512, count=lambda text: len(tokenizer.encode(text)))
    """

    _metric = "token_limit"

    def __init__(self, env: TextEnv, max_tokens: int, *, count: Callable[[str], int] = len) -> None:
        """Create the wrapper.

        Args:
            env: A text environment.
            max_tokens: Length of a dialogue from which on it is cut, at least 1.
            count: Returns the length of a text; by default in characters.

        Raises:
            ValueError: ``max_tokens`` is out of its range.
        """
        RecordConstructorArgs.__init__(self, max_tokens=max_tokens, count=count)
        if max_tokens < 1:
            raise ValueError(f"max_tokens={max_tokens}: must be at least 1")
        super().__init__(env, max_tokens)
        self._count = count

    def _cost(self, observation: Any, reply: str | None) -> int:
        said = [] if reply is None else [reply]
        return sum(map(self._count, said + texts(observation)))


class RewardShaping(gymnasium.Wrapper[Any, str, Any, str], RecordConstructorArgs):
    """Changes rewards by a function, or adds the last step's metrics to them with weights.

    The metric ``unshaped_reward`` has the sum of the rewards as they were.

    Example:
        >>> env = RewardShaping(env, {"well_formed": 0.1})
        >>> env = RewardShaping(env, lambda reward, info: 2 * reward - 1)
    """

    def __init__(
        self, env: TextEnv, shape: Callable[[float, Info], float] | Mapping[str, float]
    ) -> None:
        """Create the wrapper.

        Args:
            env: A text environment.
            shape: Weights of numbers in the final ``info["metrics"]``, added to the last reward;
                or what returns the new reward of each step, given the reward and the ``info``.
        """
        RecordConstructorArgs.__init__(self, shape=shape)
        gymnasium.Wrapper.__init__(self, env)
        self._shape = shape
        self._unshaped = 0.0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Reset the environment and the sum."""
        self._unshaped = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> Stepped:
        """Step the environment and shape its reward.

        Raises:
            KeyError: The episode came to its own end without a metric that has a weight.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = float(reward)
        self._unshaped += reward
        if callable(self._shape):
            reward = self._shape(reward, info)
        elif terminated or truncated:
            reward += _weighted_sum(self._shape, info.get("metrics", {}), must_have=terminated)
        info = _with_metric(info, "unshaped_reward", self._unshaped)
        return observation, reward, terminated, truncated, info


class FormatPenalty(gymnasium.Wrapper[Any, str, Any, str], RecordConstructorArgs):
    r"""Takes something off the reward of every reply that does not have a format.

    The metric ``format_ok`` is the share of the episode's replies that have it.

    Example:
        >>> env = FormatPenalty(env, r"<think>.*</think>\s*<answer>.*</answer>", penalty=0.2)
    """

    def __init__(
        self, env: TextEnv, accepts: str | re.Pattern[str] | Callable[[str], bool], penalty: float
    ) -> None:
        """Create the wrapper.

        Args:
            env: A text environment.
            accepts: A regular expression that the whole reply, stripped of white space, must
                match, its dots matching newlines too; or what returns whether a reply will do.
            penalty: What is taken off, not negative.

        Raises:
            ValueError: ``penalty`` is negative, or ``accepts`` no regular expression.
        """
        RecordConstructorArgs.__init__(self, accepts=accepts, penalty=penalty)
        gymnasium.Wrapper.__init__(self, env)
        if not penalty >= 0:
            raise ValueError(f"penalty={penalty}: must not be negative, it is taken off")
        self._accepts = accepts if callable(accepts) else _matcher(accepts)
        self._penalty = penalty
        self._num_replies = self._num_accepted = 0

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Reset the environment and the counts."""
        self._num_replies = self._num_accepted = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> Stepped:
        """Step the environment and punish what has not the format."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = float(reward)
        accepted = bool(self._accepts(action))
        self._num_replies += 1
        self._num_accepted += accepted
        info = _with_metric(info, "format_ok", self._num_accepted / self._num_replies)
        if not accepted:
            reward -= self._penalty
        return observation, reward, terminated, truncated, info


def _weighted_sum(
    weights: Mapping[str, float], metrics: Mapping[str, float], must_have: bool
) -> float:
    if must_have and (missing := sorted(weights.keys() - metrics.keys())):
        raise KeyError(f"{missing[0]!r}: no such metric; there are {', '.join(metrics)}")
    return sum(weight * metrics.get(name, 0.0) for name, weight in weights.items())


def _matcher(pattern: str | re.Pattern[str]) -> Callable[[str], bool]:
    try:
        compiled = re.compile(pattern, re.DOTALL) if isinstance(pattern, str) else pattern
    except re.error as error:
        raise ValueError(f"accepts={pattern!r}: no regular expression, {error}") from error
    return lambda reply: compiled.fullmatch(reply.strip()) is not None
