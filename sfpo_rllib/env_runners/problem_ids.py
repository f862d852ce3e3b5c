"""Which problem a seed shows, as an environment has it, before anything is sampled."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym

from sfpo_rllib.core.checks import first_line
from sfpo_rllib.env_runners.env_values import described, short, words
from sfpo_rllib.env_runners.text_envs import make_text_env

ProblemId = int | str

HOW = "`def problem_id(self, seed): return seed % len(self.problems)`"


class ProblemIds:
    """Asks an environment of its own, which is made when first needed."""

    def __init__(self, env: Any, env_config: Mapping[str, Any]) -> None:
        """Makes nothing yet.

        Args:
            env: See `make_text_env`.
            env_config: See `make_text_env`.
        """
        self._name = f"env={env!r}"
        self._make = lambda: make_text_env(env, dict(env_config))
        self._env: gym.Env | None = None
        self._ask: Callable[[int], Any] | None = None

    def __call__(self, seed: int) -> ProblemId | None:
        """The problem that a seed shows; None for one that does not come again.

        Raises:
            ValueError: If the environment has no answer.
        """
        if self._ask is None:
            self._env = self._make()
            self._ask = asked(self._env)
        try:
            return problem_id(self._ask, seed)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from error

    def close(self) -> None:
        """Closes the environment, if it was made."""
        if self._env is not None:
            self._env.close()
        self._env = self._ask = None


def asked(env: gym.Env) -> Callable[[int], Any] | None:
    """An environment's `problem_id`, also of one under wrappers; None if it has none."""
    try:
        method = env.get_wrapper_attr("problem_id")
    except AttributeError:
        method = None
    return method if callable(method) else None


def problem_id(ask: Callable[[int], Any] | None, seed: int) -> ProblemId | None:
    """What an environment's `problem_id` answers, checked.

    Raises:
        ValueError: If it has none, raises, or answers with anything but an int, a str or None.
    """
    if ask is None:
        raise ValueError(
            "has no problem_id(seed), which curriculum needs to know a problem before it is "
            f"sampled; give it one, e.g. {HOW}, or set curriculum=None"
        )
    try:
        answer = ask(seed)
    except Exception as error:
        raise ValueError(f"problem_id({seed}) raised {first_line(described(error))}") from error
    if answer is None or isinstance(answer, str):
        return answer
    try:
        return operator.index(answer)  # numpy's integers too
    except TypeError:
        raise ValueError(
            f"problem_id({seed}) is {short(answer)}: must be an int or a str, or None for a "
            "problem that does not come again"
        ) from None


def identity_problems(env: gym.Env, shown: Sequence[Any]) -> Iterator[str]:
    """What is wrong with an environment whose problems are to be told apart by the driver.

    Args:
        env: The environment.
        shown: Its first observations by seed, from 0 on.
    """
    ask, seeds = asked(env), range(len(shown))
    try:
        ids = [problem_id(ask, seed) for seed in seeds]
        again = [problem_id(ask, seed) for seed in seeds]
    except ValueError as error:
        yield f"{error}"
        return
    if set(ids) == {None}:
        yield (
            "has no problem that comes twice, and curriculum skips those that do: give it a "
            "number of problems (such as size=), or set curriculum=None"
        )
    first: dict[ProblemId, int] = {}
    for seed, answer in enumerate(ids):
        if answer != again[seed]:
            yield (
                f"problem_id({seed}) is {answer!r}, and then {again[seed]!r}: the seed alone must "
                "decide it"
            )
            return
        if answer is None:
            continue
        other = first.setdefault(answer, seed)
        if words(shown[seed]) != words(shown[other]):
            yield (
                f"problem_id is {answer!r} for seeds {other} and {seed}, which show "
                f"{short(shown[other])} and {short(shown[seed])}: equal ids must be one problem"
            )
            return
