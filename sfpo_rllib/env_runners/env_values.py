"""What environments return, checked: what is wrong is named before anything is spent on it."""

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple, TypeVar

from ray import cloudpickle

from sfpo_rllib.env_runners.prompts import Observation, is_message

T = TypeVar("T")

# Returns become float32, and the squares of their differences are averaged.
MAX_REWARD = 1e15
_SHOWN = 80  # characters of a value in a message


class EnvFault(Exception):
    """An environment did what it must not do; the message says what, and what would be right."""


class Turn(NamedTuple):
    """A step of an environment, checked."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


def check_reset(result: Any) -> tuple[Observation, dict[str, Any]]:
    """The observation and info of a reset.

    Raises:
        EnvFault: If they are not what they must be.
    """
    if not (isinstance(result, tuple | list) and len(result) == 2):
        raise EnvFault(f"reset() returned {short(result)}: must be (observation, info)")
    observation, info = result
    return _observation("reset()", observation), _info("reset()", info)


def check_step(result: Any) -> Turn:
    """The parts of a step.

    Raises:
        EnvFault: If they are not what they must be.
    """
    if not (isinstance(result, tuple | list) and len(result) == 5):
        raise EnvFault(
            f"step() returned {short(result)}: must be (observation, reward, terminated, "
            "truncated, info)"
        )
    observation, reward, terminated, truncated, info = result
    number = as_number(reward)
    if number is None or not abs(number) <= MAX_REWARD:
        raise EnvFault(f"reward={short(reward)}: must be a finite number, |reward| <= 1e15")
    terminated, truncated = _flag("terminated", terminated), _flag("truncated", truncated)
    if observation is None and (terminated or truncated):  # nobody is shown the last one
        observation = ""
    return Turn(
        _observation("step()", observation), number, terminated, truncated, _info("step()", info)
    )


def as_number(value: Any) -> float | None:
    """A number of whatever kind as a float, None if it is none.

    Python's numbers, Decimal, and arrays and tensors of one element are numbers; texts and complex
    numbers are not.
    """
    try:
        if callable(getattr(value, "item", None)):  # numpy, torch, jax
            value = value.item()
        return float(value) if isinstance(value, Real | Decimal) else None
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        return None


def described(error: BaseException) -> str:
    """An error with its type."""
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # its own __str__ raises
        return type(error).__name__


def words(observation: Observation) -> str | list[tuple[str, str]]:
    """What a model is shown of an observation, to be compared."""
    if isinstance(observation, str):
        return observation
    return [(message["role"], message["content"]) for message in observation]


def short(value: Any) -> str:
    """A value as a message shows it."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _flag(name: str, value: Any) -> bool:
    number = as_number(value)
    if number not in (0.0, 1.0):
        raise EnvFault(f"{name}={short(value)}: must be a bool")
    return bool(number)


def _observation(call: str, observation: Any) -> Observation:
    """A copy, which the environment cannot change any more."""
    if isinstance(observation, str):
        return str.__str__(observation)  # a plain one, of a subclass too
    if isinstance(observation, list | tuple) and all(map(is_message, observation)):
        return _copied(call, "an observation", [dict(message) for message in observation])
    raise EnvFault(
        f"{call} showed {short(observation)}: must be a text environment, and observations, of "
        f"type {type(observation).__name__}, be strings or lists of chat messages with 'role' and "
        "'content'"
    )


def _info(call: str, info: Any) -> dict[str, Any]:
    """A copy, which the environment cannot change any more."""
    if info is None:
        return {}
    if not isinstance(info, Mapping):
        raise EnvFault(f"{call}: info={short(info)}: must be a dictionary")
    if "is_success" in info:
        success = as_number(info["is_success"])
        if success is None or not 0 <= success <= 1:
            raise EnvFault(
                f"{call}: info['is_success']={short(info['is_success'])}: must be a bool, and may "
                "be left out"
            )
    metrics = info.get("metrics")
    if not isinstance(metrics, Mapping | None):
        raise EnvFault(f"{call}: info['metrics']={short(metrics)}: must be numbers by name")
    for name, value in (metrics or {}).items():
        number = as_number(value)
        if not isinstance(name, str) or number is None or not math.isfinite(number):
            raise EnvFault(
                f"{call}: info['metrics'][{short(name)}]={short(value)}: must be a finite number, "
                "under a name that is a string"
            )
    return _copied(call, f"info with {sorted(map(str, info))}", dict(info)) if info else {}


def _copied(call: str, what: str, value: T) -> T:
    """A copy as it will arrive in other processes."""
    try:
        return cloudpickle.loads(cloudpickle.dumps(value))
    except Exception as error:
        raise EnvFault(
            f"{call}: {what} cannot be pickled: must be plain data, as it travels between "
            f"processes ({described(error)})"
        ) from error
