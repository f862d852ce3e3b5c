"""Calls that never return, interrupted in the main thread."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

_AGAIN_EVERY_S = 0.25


class CallLimit:
    """While it is entered, calls that take too long are ended by a KeyboardInterrupt.

    As by Ctrl-C, so that an environment runs where training runs it, in the main thread, and a
    sleep or a search for a pattern ends too. It comes by a timer of the system's, as a thread would
    not run while a search for a pattern does. In another thread nothing is interrupted.

    Attributes:
        expired: The call that took too long; ``None`` if none has.
    """

    def __init__(self, seconds: float) -> None:
        """Set what a call may take."""
        self.seconds = seconds
        self.expired: str | None = None
        self._call, self._deadline = "", math.inf
        self._restore = contextlib.ExitStack()
        self._is_on = False

    def __enter__(self) -> CallLimit:
        in_main = threading.current_thread() is threading.main_thread()
        self._is_on = in_main and hasattr(signal, "setitimer")
        if self._is_on:
            self._restore.enter_context(_own_alarm(self._ring))
        return self

    def __exit__(self, *error: object) -> None:
        self._restore.close()

    @contextlib.contextmanager
    def of(self, call: str) -> Iterator[None]:
        """Limit what is done in the body."""
        self._call, self._deadline = call, time.monotonic() + self.seconds
        if self._is_on:
            # Again and again: an environment may catch whatever is raised in it.
            signal.setitimer(signal.ITIMER_REAL, self.seconds, _AGAIN_EVERY_S)
        try:
            yield
        finally:
            self._deadline = math.inf
            if self._is_on:
                signal.setitimer(signal.ITIMER_REAL, 0)
        if self.expired is not None:  # it was caught
            raise KeyboardInterrupt

    def _ring(self, *_: object) -> None:
        if time.monotonic() >= self._deadline:
            self.expired = self._call
            raise KeyboardInterrupt


@contextlib.contextmanager
def _own_alarm(ring: Any) -> Iterator[None]:
    """The alarm is ours; whoever had set one gets it back, less the time that has passed."""
    before = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            rest = max(left - (time.monotonic() - start), 0.01)
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
