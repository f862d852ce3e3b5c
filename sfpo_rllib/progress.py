"""A run at the terminal, or in a log: a line an iteration, and a sign of life in between."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from sfpo_rllib.reporting import iteration_line

INDENT = " " * 6


class Heartbeat:
    """While it is entered, says what is under way whenever nothing was said for some seconds."""

    def __init__(self, what: str, *, every_s: float = 8.0) -> None:
        """Notes what is under way.

        Args:
            what: Said as it is, followed by the seconds that it has taken so far.
            every_s: Longest silence.
        """
        self._every_s = every_s
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.doing(what)
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self._thread.join()

    def doing(self, what: str) -> None:
        """Something else is under way from now on."""
        self._what, self._since = what, time.monotonic()

    def note(self, what: str) -> None:
        """The same is under way, of which there is more to say."""
        self._what = what

    def say(self, line: str) -> None:
        """Prints a line."""
        print(line, flush=True)
        self._said = time.monotonic()

    def _watch(self) -> None:
        while not self._left.wait(max(self._said + self._every_s - time.monotonic(), 0.01)):
            now = time.monotonic()
            if now - self._said >= self._every_s:
                self.say(f"{INDENT}{self._what}: {now - self._since:.0f} s")


class Progress(Heartbeat):
    """For `run(..., on_result=progress)`: what an iteration did, and how long the rest will take.

    To be entered, `with Progress(iterations) as progress`, for the sign of life.
    """

    def __init__(self, iterations: int, *, every_s: float = 8.0) -> None:
        """Counts from now on.

        Args:
            iterations: Of the run.
            every_s: Longest silence.
        """
        super().__init__("starting the engine, and a first look at the model", every_s=every_s)
        self._iterations = iterations
        self._first: tuple[int, float] | None = None

    def __call__(self, algo: Any, result: Mapping[str, Any]) -> None:
        """Prints the line of an iteration."""
        done, now = int(result["training_iteration"]), time.monotonic()
        if self._first is None:
            self._first = done - 1, now - float(result.get("time_this_iter_s", 0.0))
        before, start = self._first
        left = round((now - start) / (done - before) * max(self._iterations - done, 0))
        first, *more = iteration_line(result).split("\n")
        left_text = f"{left // 60}:{left % 60:02}" if left < 6000 else f"{left / 3600:.1f} h"
        self.say("\n".join([f"{first}  {left_text} left", *more]))
        last = done >= self._iterations
        self.doing("saving, and a last look at the model" if last else f"iteration {done + 1}")
