"""One environment of a user's: checked, timed, and never the end of a run."""

import logging
import math
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium as gym

from sfpo_rllib.env_runners.env_call import NO_DEADLINE, EnvCall, Part, is_from_outside
from sfpo_rllib.env_runners.env_thread import EnvThread, is_done
from sfpo_rllib.env_runners.env_values import Turn, check_reset, check_step, described
from sfpo_rllib.env_runners.prompts import Observation

logger = logging.getLogger(__name__)
T = TypeVar("T")


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
    """An environment whose every misbehaviour is an `EnvFault`. Its first call makes it.

    With a time-out, or if it is told to, it lives in a thread of its own, and is left behind there
    when a call takes too long. Else it runs in the caller's, where code that uses signals works.

    Attributes:
        env: The user's gym.Env, None while it is not made.
    """

    def __init__(
        self,
        make: Callable[[], gym.Env],
        *,
        timeout_s: float | None = None,
        in_thread: bool = False,
        faults: FaultLog | None = None,
    ) -> None:
        """Prepares the environment.

        Args:
            make: Makes it.
            timeout_s: The longest that a reset or step may take, in seconds.
            in_thread: Whether it lives in a thread of its own without a time-out, too.
            faults: Where to log what `close()` raises.
        """
        self._make_env = make
        self._limit_s = math.inf if timeout_s is None else timeout_s
        self._faults = faults or FaultLog()
        self._thread = EnvThread() if in_thread or timeout_s is not None else None
        self.env: Any = None
        # Data sets are read there: only the deadline bounds it.
        self._constructor = Part("its constructor", self._make, math.inf)
        self._call: EnvCall | None = None  # the last one

    @property
    def is_in_order(self) -> bool:
        """Whether it may be reset for another episode.

        Not after a fault, nor while a call is under way or since one was interrupted.
        """
        return self._call is None or self._call.has_succeeded

    def begin_make(self) -> EnvCall[bool]:
        """Makes it, if it is not made yet, in its own thread if it has one.

        The call, which without a thread is over at once, returns whether it did.
        """
        return self._begin(self._constructor)

    def make(self, *, deadline: float = NO_DEADLINE) -> bool:
        """Makes it, if it is not made yet. Returns whether it did.

        Args:
            deadline: When to give up, a `time.monotonic()`. Looked at in a thread only.

        Raises:
            EnvFault: If it cannot be made.
            DeadlineError: If it was not made by the deadline.
        """
        return self.begin_make().wait(deadline)

    def begin_reset(self, seed: int) -> EnvCall[tuple[Observation, dict]]:
        """Resets it, in its own thread if it has one; the call is over at once if not.

        The call returns the first observation and info, checked.
        """
        return self._begin(
            self._constructor,
            Part(
                f"reset(seed={seed})",
                lambda: check_reset(self.env.reset(seed=seed)),
                self._limit_s,
            ),
        )

    def begin_step(self, action: str) -> EnvCall[Turn]:
        """Steps it, in its own thread if it has one. The call returns what came of it, checked."""
        return self._begin(Part("step()", lambda: check_step(self.env.step(action)), self._limit_s))

    def reset(self, seed: int) -> tuple[Observation, dict]:
        """Resets it and waits; returns the first observation and info, checked.

        Raises:
            EnvFault: Whatever goes wrong.
        """
        return self.begin_reset(seed).wait()

    def spaces(self) -> tuple[gym.Space | None, gym.Space | None]:
        """Observation and action space, None where it has none.

        Raises:
            EnvFault: If it cannot be made, or raises when it is asked.
        """
        return self._begin(
            self._constructor,
            Part(
                "its spaces",
                lambda: (
                    getattr(self.env, "observation_space", None),
                    getattr(self.env, "action_space", None),
                ),
                self._limit_s,
            ),
        ).wait()

    def close(self, *, wait_s: float = 0.0) -> None:
        """Closes it. What that raises is logged.

        Args:
            wait_s: How long to wait for the environment's thread to do so.
        """
        if self._thread is None:
            self._close()
            return
        if self._call is None:  # nothing was ever asked of it
            return
        closed = self._thread.submit(self._close)
        self._thread.finish()
        is_done(closed, wait_s)

    def _make(self) -> bool:
        if self.env is not None:
            return False
        self.env = self._make_env()
        return True

    def _close(self) -> None:
        if self.env is None:
            return
        try:
            self.env.close()
        except BaseException as error:
            if self._thread is None and is_from_outside(error):
                raise
            line = f"An environment's close() raised {described(error)}"
            self._faults.report(line, error, again=logging.DEBUG)

    def _begin(self, *parts: Part) -> EnvCall[Any]:
        self._call = EnvCall(self, parts, self._thread)
        self._call.start()
        return self._call
