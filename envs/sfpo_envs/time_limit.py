"""Calls of other people's functions that may never come back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")


class TimeLimitError(TimeoutError):
    """A call took longer than it may."""


def call_within(timeout_s: float | None, function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread of its own, which is left behind when the time is up.

    It cannot be stopped, and does not keep the process from ending. Signals do not work in it.

    Args:
        timeout_s: How long to wait, in seconds; ``None`` for as long as it takes.
        function: What to call.
        *args: Its arguments.

    Raises:
        TimeLimitError: The time was up.
        BaseException: What the function raises.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="within a time limit", daemon=True).start()
    if not wait([future], timeout=timeout_s).done:
        raise TimeLimitError(f"a call took longer than timeout_s={timeout_s}")
    return future.result()
