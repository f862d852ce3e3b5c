"""One environment of a user's: checked, timed, and never the end of a run."""

import logging
import math
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium as gym

from sfpo_rllib.env_runners.env_thread import EnvThread, is_done
from sfpo_rllib.env_runners.env_values import (
    EnvFault,
    Turn,
    check_reset,
    check_step,
    described,
)
from sfpo_rllib.env_runners.prompts import Observation

logger = logging.getLogger(__name__)
T = TypeVar("T")

NO_DEADLINE = math.inf


class EnvTimeout(EnvFault):
    """A reset or step took longer than `env_timeout_s`."""


class DeadlineError(Exception):
    """The job's time is up, while an environment was at work."""


class FaultLog:
    """Logs faults: the first of a kind as a warning with its traceback.

    Of a kind are errors of one type that come from the same lines.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[type, frozenset[str]]] = set()

    def report(self, what: str, error: BaseException, *, again: int = logging.WARNING) -> None:
        """Logs an error, or what it was raised from.

        Args:
            what: The line.
            error: The error.
            again: The level at which the line is logged for others of the kind.
        """
        error = error.__cause__ or error
        frames = traceback.walk_tb(error.__traceback__)
        lines = frozenset(f"{frame.f_code.co_filename}:{line}" for frame, line in frames)
        kind = (type(error), lines)
        if kind in self._seen:
            logger.log(again, "%s", what)
        else:
            self._seen.add(kind)
            logger.warning("%s", what, exc_info=error)


class GuardedEnv:
    """An environment whose every misbehaviour is an `EnvFault`.

    With a time-out it lives in a thread of its own, and is left behind there when a call takes too
    long. Without one it runs in the caller's, where code that uses signals works.

    Attributes:
        is_in_order: Whether it may be reset for another episode: not after a fault, nor while, or
            since, a call was interrupted.
    """

    def __init__(
        self,
        make: Callable[[], gym.Env],
        *,
        timeout_s: float | None = None,
        faults: FaultLog | None = None,
        deadline: float = NO_DEADLINE,
    ) -> None:
        """Makes the environment.

        Args:
            make: Does so.
            timeout_s: The longest that a reset or step may take, in seconds.
            faults: Where to log what `close()` raises.
            deadline: When to give up, a `time.monotonic()`. Looked at with a time-out only.

        Raises:
            EnvFault: If it could not be made.
            DeadlineError: If it was not made by the deadline.
        """
        self._timeout_s = timeout_s
        self._faults = faults or FaultLog()
        self._thread = None if timeout_s is None else EnvThread()
        self._env: gym.Env | None = None
        self.is_in_order = True
        try:
            # Data sets are read here: only the deadline bounds it.
            self._call("its constructor", lambda: self._make(make), math.inf, deadline)
        except BaseException:
            self.close()
            raise

    def _make(self, make: Callable[[], gym.Env]) -> None:
        self._env = make()

    @property
    def env(self) -> gym.Env:
        """The user's, once it is made."""
        assert self._env is not None
        return self._env

    def reset(self, seed: int, *, deadline: float = NO_DEADLINE) -> tuple[Observation, dict]:
        """Resets it; returns the first observation and info, checked.

        Raises:
            EnvFault: Whatever goes wrong.
            DeadlineError: If it is not done by the deadline.
        """
        env: Any = self._env
        return self._call(
            f"reset(seed={seed})", lambda: check_reset(env.reset(seed=seed)), self._limit, deadline
        )

    def step(self, action: str, *, deadline: float = NO_DEADLINE) -> Turn:
        """Steps it; returns what came of it, checked.

        Raises:
            EnvFault: Whatever goes wrong.
            DeadlineError: If it is not done by the deadline.
        """
        env: Any = self._env
        return self._call("step()", lambda: check_step(env.step(action)), self._limit, deadline)

    def spaces(self) -> tuple[gym.Space | None, gym.Space | None]:
        """Observation and action space, None where it has none.

        Raises:
            EnvFault: If it raises when it is asked.
        """
        env: Any = self._env
        return self._call(
            "its spaces",
            lambda: (
                getattr(env, "observation_space", None),
                getattr(env, "action_space", None),
            ),
            self._limit,
        )

    def close(self, *, wait_s: float = 0.0) -> None:
        """Closes it. What that raises is logged.

        Args:
            wait_s: How long to wait for the environment's thread to do so.
        """
        if self._thread is None:
            self._close()
            return
        closed = self._thread.submit(self._close)
        self._thread.finish()
        is_done(closed, wait_s)

    @property
    def _limit(self) -> float:
        return math.inf if self._timeout_s is None else self._timeout_s

    def _close(self) -> None:
        if self._env is None:
            return
        try:
            self._env.close()
        except BaseException as error:
            if self._thread is None and _is_from_outside(error):
                raise
            line = f"An environment's close() raised {described(error)}"
            self._faults.report(line, error, again=logging.DEBUG)

    def _call(
        self, what: str, call: Callable[[], T], limit_s: float, deadline: float = NO_DEADLINE
    ) -> T:
        self.is_in_order = False
        try:
            if self._thread is None:
                result = call()
            else:
                result = self._await(self._thread, what, call, limit_s, deadline)
        except (EnvFault, DeadlineError):
            raise
        except BaseException as error:
            if self._thread is not None or _is_from_outside(error):
                raise
            raise EnvFault(f"{what} raised {described(error)}") from error
        self.is_in_order = True
        return result

    def _await(
        self, thread: EnvThread, what: str, call: Callable[[], T], limit_s: float, deadline: float
    ) -> T:
        future = thread.submit(call)
        left = deadline - time.monotonic()
        if not is_done(future, min(limit_s, left)):
            where = thread.where()
            if left < limit_s:
                raise DeadlineError(f"{what} was not over at the deadline; it is at {where}")
            raise EnvTimeout(
                f"{what} took longer than env_timeout_s={self._timeout_s}; it is at {where}"
            )
        if error := future.exception():
            if isinstance(error, EnvFault):
                raise error
            raise EnvFault(f"{what} raised {described(error)}") from error
        return future.result()


def _is_from_outside(error: BaseException) -> bool:
    """Whether Ctrl-C or a signal's handler raised it, in the midst of what the environment did."""
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    codes = [getattr(handler, "__code__", None) for handler in handlers]
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code in codes for frame, _ in frames)
