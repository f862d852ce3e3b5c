"""Calls that never return, interrupted in the main thread."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator

_LOOKS_EVERY_S = 0.25


class CallLimit:
    """While it is entered, calls that take too long are ended by a KeyboardInterrupt.

    As by Ctrl-C, so that an environment runs where training runs it, in the main thread, and a
    sleep or a search for a pattern ends too. In another thread, or where Ctrl-C has a handler of
    its own, nothing is interrupted.

    Attributes:
        expired: The call that took too long; ``None`` if none has.
    """

    def __init__(self, seconds: float) -> None:
        """Set what a call may take."""
        self.seconds = seconds
        self.expired: str | None = None
        self._call, self._deadline = "", math.inf
        self._left = threading.Event()

    def __enter__(self) -> CallLimit:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()

    @contextlib.contextmanager
    def of(self, call: str) -> Iterator[None]:
        """Limit what is done in the body."""
        self._call, self._deadline = call, time.monotonic() + self.seconds
        try:
            yield
        finally:
            self._deadline = math.inf
        if self.expired is not None:  # it was caught
            raise KeyboardInterrupt

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        # Again and again: an environment may catch whatever is raised in it.
        while not self._left.wait(_LOOKS_EVERY_S):
            if time.monotonic() > self._deadline:
                self.expired = self._call
                signal.pthread_kill(main, signal.SIGINT)
