"""A thread for an environment, which can be left behind when a call does not come back."""

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_NUM_FRAMES = 4  # shown of a stuck thread's stack


class EnvThread:
    """Runs the calls it is given in order, all in one daemon thread that starts with the first.

    An environment lives in one from its constructor to `close()`: what belongs to a thread, such
    as a connection to SQLite, works as it would without.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future, Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        # A daemon: the process ends though a call never does.
        self._thread = threading.Thread(target=self._work, name="environment", daemon=True)

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Queues a call."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        if self._thread.ident is None:
            self._thread.start()
        return future

    def finish(self) -> None:
        """Lets the thread end once it has run what it was given."""
        self._calls.put(None)

    def where(self) -> str:
        """The lines at which the thread is now, the innermost first."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        if frame is None:
            return "an unknown place"
        places = reversed(traceback.extract_stack(frame)[-_NUM_FRAMES:])
        return " <- ".join(f"{Path(p.filename).name}:{p.lineno}" for p in places)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            future, call = work
            try:
                result = call()
            except BaseException as error:  # SystemExit, too, must not end the thread
                future.set_exception(error)
            else:
                future.set_result(result)
            del work, future, call  # the next call may come late, or never


def is_done(future: "Future[Any]", timeout_s: float) -> bool:
    """Waits so long for a call; returns whether it is over."""
    longest = threading.TIMEOUT_MAX / 2  # that Python can wait
    return bool(wait([future], timeout=min(max(timeout_s, 0.0), longest)).done)
