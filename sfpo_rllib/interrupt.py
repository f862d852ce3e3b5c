"""Ending a run between two bytecodes: SIGTERM and Ctrl-C as a request, then as an exception."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Wrappers hand on a Ctrl-C that the terminal has sent as well; people are slower.
SAME_KEY_PRESS_S = 0.5
POKE_INTERVAL_S = 1.0


class BatchGivenUp(BaseException):
    """What was under way was not finished, as its time of grace was over."""


class StopRequest:
    """While it is entered, SIGINT and SIGTERM ask the run to stop, instead of ending it.

    What is under way may be finished in a time of grace; then it is interrupted. A second SIGINT
    ends the process and all that it has started at once; in a notebook or a shell it raises
    KeyboardInterrupt. Does nothing outside of the main thread, where Python delivers no signals.

    Attributes:
        signum: The signal that came first; None before.
        gave_up: Whether something was interrupted.
    """

    def __init__(self) -> None:
        self.signum: signal.Signals | None = None
        self.gave_up = False
        self._since = 0.0
        self._grace_s: float | None = None  # None: nothing may be interrupted
        self._may_interrupt: Callable[[], bool] = lambda: True
        self._poked = self._at_once = False
        self._left = threading.Event()
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        for signum, handler in self._previous.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def install(self) -> None:
        """Takes the signals over; again, if somebody else has taken them meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            previous = signal.signal(signum, self._handle)
            self._previous.setdefault(signum, previous)

    @property
    def name(self) -> str:
        """What people call the signal that came first."""
        return "Ctrl-C" if self.signum == signal.SIGINT else "SIGTERM"

    def request(self, signum: signal.Signals) -> None:
        """Asks the run to stop, as if the signal had come."""
        self.signum, self._since = signum, time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def interrupting(
        self, grace_s: float, when: Callable[[], bool] = lambda: True
    ) -> Iterator[None]:
        """What is done in here may be interrupted by a KeyboardInterrupt, as by Ctrl-C.

        Args:
            grace_s: Seconds from the signal on that it may take.
            when: Whether it may be interrupted just now; asked before it is.

        Raises:
            BatchGivenUp: If it was, and did not catch it.
        """
        self._grace_s, self._may_interrupt = grace_s, when
        try:
            self._interrupt_if_due()
            yield
        except KeyboardInterrupt as error:
            if not self.gave_up or self._at_once:
                raise
            raise BatchGivenUp from error
        finally:
            self._grace_s = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._poked:
            self._poked = False
        elif self.signum is None:
            self.request(signal.Signals(signum))
            if signum == signal.SIGINT and sys.stderr.isatty():
                _say("Ctrl-C: finishing or giving up what is under way; again, to end at once.")
        elif signum == signal.SIGINT and time.monotonic() - self._since > SAME_KEY_PRESS_S:
            self._at_once = True
            _end_at_once()
        self._interrupt_if_due()

    def _interrupt_if_due(self) -> None:
        if self._is_due() and self._may_interrupt():
            self.gave_up = True
            # No class of our own: Ray makes this one of whatever a handler raises.
            raise KeyboardInterrupt

    def _is_due(self) -> bool:
        if self.signum is None or self._grace_s is None:
            return False
        return time.monotonic() >= self._since + self._grace_s

    def _watch(self) -> None:
        """Brings the main thread back to the handler, whatever it waits for, until it has left."""
        main = threading.main_thread().ident
        assert main is not None and self.signum is not None
        while not self._left.wait(POKE_INTERVAL_S):
            if self._is_due() and self._may_interrupt():
                self._poked = True
                signal.pthread_kill(main, self.signum)


def is_interactive() -> bool:
    """Whether somebody goes on in this process after an interrupt: in a notebook or a shell."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def _end_at_once() -> None:
    if is_interactive():
        raise KeyboardInterrupt
    _say("Ctrl-C: ended at once. What was saved last stands; to go on, run the same again.")
    for pid in _descendants(os.getpid()):  # Ray's would outlive this one, some by a minute
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(128 + signal.SIGINT)


def _descendants(ancestor: int) -> list[int]:
    """Processes that a process has started, and those that they have, where there is a /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def _say(line: str) -> None:
    os.write(2, f"\n{line}\n".encode())  # print() must not be called again while it is at work
