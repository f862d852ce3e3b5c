"""Calls of environments: each in turn, or several beside the engine."""

import math
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sfpo_rllib.env_runners.env_call import EnvCall

# Starts a call; None if there is no need of it any more.
Begin = Callable[[], EnvCall[Any] | None]
# What follows a call that is over or overdue: its `wait()` returns or raises at once.
Then = Callable[[EnvCall[Any]], None]


class EnvScheduler:
    """Runs calls of environments, and what follows each, always in the caller's thread.

    Every environment has a thread of its own; this decides how many of them are at work at once. A
    call that is overdue has no place any more: one that never ends costs the others nothing.
    """

    def __init__(self, num_threads: Callable[[], int] | None) -> None:
        """Initializes a scheduler.

        Args:
            num_threads: How many calls may be at work just now. None: each call is run, and
                followed, before `do` returns.
        """
        self._num_threads = num_threads
        self._queue: deque[tuple[Begin, Then]] = deque()
        self._at_work: dict[EnvCall[Any], Then] = {}
        self._over: queue.SimpleQueue[EnvCall[Any]] = queue.SimpleQueue()

    @property
    def at_work(self) -> list[EnvCall[Any]]:
        """The calls that are."""
        return list(self._at_work)

    @property
    def is_idle(self) -> bool:
        """Whether no call is waiting or at work."""
        return not (self._queue or self._at_work)

    def do(self, begin: Begin, then: Then) -> None:
        """Runs a call as soon as there is a place for it, the first come first.

        Args:
            begin: Starts it.
            then: What follows it; in threads, as part of a later `collect`.
        """
        if self._num_threads is None:
            if (call := begin()) is not None:
                then(call)
            return
        self._queue.append((begin, then))
        self._fill()

    def collect(self, wait_s: float) -> None:
        """Runs what follows the calls that are over, or overdue.

        Args:
            wait_s: How long to wait for the first of them.
        """
        for call in self._take_over(wait_s):
            self._at_work.pop(call)(call)
        self._fill()

    def _take_over(self, wait_s: float) -> list[EnvCall[Any]]:
        soonest = min((call.due for call in self._at_work), default=math.inf)
        wait_s = min(wait_s, soonest - time.monotonic())
        over: dict[EnvCall[Any], None] = {}
        try:
            over[self._over.get(timeout=max(wait_s, 0.0))] = None
            while True:
                over[self._over.get_nowait()] = None
        except queue.Empty:
            pass
        now = time.monotonic()
        over |= {call: None for call in self._at_work if call.due <= now}
        return [call for call in over if call in self._at_work]  # others were overdue before

    def _fill(self) -> None:
        assert self._num_threads is not None
        while self._queue and len(self._at_work) < self._num_threads():
            begin, then = self._queue.popleft()
            if (call := begin()) is not None:
                self._at_work[call] = then
                call.when_over(self._over.put)
