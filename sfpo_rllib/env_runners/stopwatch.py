"""How much of the time something is at work."""

import time


class Stopwatch:
    """Runs from when it is made; `with` it is done what counts as work."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy_s = 0.0

    def __enter__(self) -> None:
        self._busy_s -= time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._busy_s += time.perf_counter()

    @property
    def busy_fraction(self) -> float:
        """Time at work over all the time since the watch was made."""
        return self._busy_s / max(time.perf_counter() - self._start, 1e-9)
