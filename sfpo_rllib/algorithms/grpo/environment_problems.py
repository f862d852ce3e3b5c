"""What can be wrong with an environment, found before anything expensive starts."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym

from sfpo_rllib.core.checks import first_line, is_number
from sfpo_rllib.env_runners.env_call import DeadlineError
from sfpo_rllib.env_runners.env_values import EnvFault, described, short, words
from sfpo_rllib.env_runners.guarded_env import GuardedEnv
from sfpo_rllib.env_runners.problem_ids import identity_problems
from sfpo_rllib.env_runners.prompts import Observation, PromptFormatter
from sfpo_rllib.env_runners.text_envs import UnmadeEnvSpace, make_text_env

NUM_PROMPTS_CHECKED = 8
NUM_PROMPTS_REPEATED = 3


def environment_problems(
    env: Any,
    env_config: Mapping[str, Any],
    formatter: PromptFormatter | None,
    context: float,
    *,
    env_timeout_s: Any,
    rollout_timeout_s: Any,
    needs_problem_ids: bool = False,
) -> Iterator[str]:
    """What is wrong with the environment and its first prompts.

    Args:
        env: See `make_text_env`.
        env_config: See `make_text_env`.
        formatter: What prompts are made with, None if that is not known.
        context: How long prompts may be, in tokens.
        env_timeout_s: How long a reset or step may take, if it is a number above 0.
        rollout_timeout_s: How long all of it may take, if it is a number above 0.
        needs_problem_ids: Whether the driver must know which problem a seed shows.
    """
    name = f"env={env!r}"
    # What is out of range is reported elsewhere.
    env_timeout_s, rollout_timeout_s = (
        value if is_number(value, above=0.0) else None
        for value in (env_timeout_s, rollout_timeout_s)
    )
    made = GuardedEnv(lambda: make_text_env(env, dict(env_config)), timeout_s=env_timeout_s)
    try:
        made.make(deadline=time.monotonic() + (rollout_timeout_s or math.inf))
    except (EnvFault, DeadlineError) as error:
        made.close()
        # The constructor's own error, without our words for where it came from.
        yield f"{name}: could not be made: {first_line(described(error.__cause__ or error))}"
        return
    try:
        problems = _first_problem(made, formatter, context, needs_problem_ids=needs_problem_ids)
        yield from (f"{name}: {problem}" for problem in problems)
    except EnvFault as error:
        yield f"{name}: {first_line(error)}"
    finally:
        made.close()


def raise_if_unmade(env: Any, spaces: Mapping[str, Any] | None) -> None:
    """Raises if the env runners could not make what could be made in this process.

    Raises:
        RuntimeError: With the reason.
    """
    for pair in (spaces or {}).values():
        if isinstance(pair[0], UnmadeEnvSpace):
            raise RuntimeError(
                f"env={env!r}: could be made in this process, and not in an env runner's: "
                f"{pair[0].reason}"
            )


def _first_problem(
    env: GuardedEnv,
    formatter: PromptFormatter | None,
    context: float,
    *,
    needs_problem_ids: bool,
) -> Iterator[str]:
    shown: dict[int, Observation] = {}
    for seed in range(NUM_PROMPTS_CHECKED):
        shown[seed], _ = env.reset(seed)
        if seed == 0:
            _, space = env.spaces()
            if not isinstance(space, gym.spaces.Text | None):
                yield f"must be a text environment, and its action space, {space}, is not text"
                return
        try:
            length = 0 if formatter is None else len(formatter.first(shown[seed]))
        except ValueError as error:
            yield f"no prompt can be made of seed {seed}'s {error}"
            return
        if length >= context:
            yield (
                f"the prompt of seed {seed} has {length} tokens, and must leave room for a reply "
                f"in the model's context of {context}"
            )
            return
    for seed in range(NUM_PROMPTS_REPEATED):
        again, _ = env.reset(seed)
        if words(again) != words(shown[seed]):
            yield (
                f"reset(seed={seed}) shows {short(shown[seed])}, and then {short(again)}: the seed "
                "alone must decide the problem, or the members of a group cannot be compared; "
                "`python -m sfpo_envs check` says what else is wrong with an environment"
            )
            return
    if needs_problem_ids:
        yield from identity_problems(env.env, list(shown.values()))
