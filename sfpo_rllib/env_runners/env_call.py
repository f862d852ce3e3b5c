"""What an environment was asked to do, in its own thread or in the caller's."""

import math
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from sfpo_rllib.env_runners.env_thread import EnvThread, is_done
from sfpo_rllib.env_runners.env_values import EnvFault, described

T = TypeVar("T")

NO_DEADLINE = math.inf
# A call that makes its environment first is looked at so often: the reset's time begins later.
_LOOK_AGAIN_S = 1.0


class EnvTimeout(EnvFault):
    """A reset or step took longer than `env_timeout_s`."""


class DeadlineError(Exception):
    """The job's time is up, while an environment was at work."""


class Part(NamedTuple):
    """One of the things that a call does in turn.

    Attributes:
        what: Its name in messages.
        run: Does it.
        limit_s: The longest that it may take, in seconds.
    """

    what: str
    run: Callable[[], Any]
    limit_s: float


class EnvCall(Generic[T]):
    """Something an environment was asked to do, under way or over. Returns what the last part does.

    Attributes:
        env: The environment, a `GuardedEnv`.
        due: When the time of the part it is at is up, a `time.monotonic()`.
    """

    def __init__(self, env: Any, parts: Sequence[Part], thread: EnvThread | None = None) -> None:
        """Prepares the call.

        Args:
            env: The environment, for whoever waits.
            parts: What to do.
            thread: Where, the caller's by default.
        """
        self.env = env
        self.due = math.inf
        self._parts, self._part = parts, parts[0]
        self._thread = thread
        self._future: Future[T] = Future()

    def start(self) -> None:
        """Queues the call in the environment's thread, or else runs it to its end.

        Raises:
            BaseException: Ctrl-C, or what the handler of another signal raised.
        """
        if self._thread is not None:
            self._future = self._thread.submit(self._run)
            return
        try:
            self._future.set_result(self._run())
        except EnvFault as error:
            self._future.set_exception(error)

    @property
    def has_succeeded(self) -> bool:
        """Whether it is over, without a fault."""
        return self._future.done() and self._future.exception() is None

    def when_over(self, then: Callable[["EnvCall[T]"], None]) -> None:
        """Has `then` called once the call is over, in whatever thread."""
        self._future.add_done_callback(lambda _: then(self))

    def wait(self, deadline: float = NO_DEADLINE) -> T:
        """What the call returned, when it is over.

        Args:
            deadline: When to give up, a `time.monotonic()`.

        Raises:
            EnvFault: If the environment did what it must not, or took too long.
            DeadlineError: If the call is not over by the deadline.
        """
        while not self._future.done():
            left = min(self.due, deadline) - time.monotonic()
            if left <= 0:
                raise self.late(deadline)
            is_done(self._future, min(left, _LOOK_AGAIN_S))
        return self._future.result()

    def late(self, deadline: float) -> Exception:
        """Says whose time is up, its own or the job's, and which line it is at."""
        where = "an unknown place" if self._thread is None else self._thread.where()
        part = self._part
        if deadline < self.due:
            return DeadlineError(f"{part.what} was not over at the deadline; it is at {where}")
        return EnvTimeout(
            f"{part.what} took longer than env_timeout_s={part.limit_s}; it is at {where}"
        )

    def _run(self) -> T:
        result: Any = None
        for part in self._parts:
            self._part, self.due = part, time.monotonic() + part.limit_s
            try:
                result = part.run()
            except EnvFault:
                raise
            except BaseException as error:
                if self._thread is None and is_from_outside(error):
                    raise
                raise EnvFault(f"{part.what} raised {described(error)}") from error
        return result


def is_from_outside(error: BaseException) -> bool:
    """Whether Ctrl-C or a signal's handler raised it, in the midst of what the environment did."""
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    codes = [getattr(handler, "__code__", None) for handler in handlers]
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code in codes for frame, _ in frames)
