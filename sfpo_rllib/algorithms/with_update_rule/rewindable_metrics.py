"""Metrics of one pass over a batch that can be taken back when another pass follows.

A learner logs from within its loss: values that stand once an update beside counts, sums and
series that grow with every pass. DQN's series of TD errors, for one, is as long as the batch, or
its replay buffer refuses it as priorities.
"""

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tree
from ray.rllib.utils import force_tuple
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

Key = tuple[str, ...]


class RewindableMetrics(MetricsLogger):
    """A metrics logger that can take back what a thread has logged."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._recorder: int | None = None  # thread
        self._before: dict[Key, Any] = {}  # by key; None where nothing stood

    @contextmanager
    def recording(self) -> Iterator[Callable[[], None]]:
        """Remembers what stood where the current thread logs.

        Other threads log as ever: IMPALA's learner has several.

        Yields:
            A function that takes back what was logged since, or since it was last called.
        """
        self._recorder = threading.get_ident()
        try:
            yield self._rewind
        finally:
            self._recorder = None
            self._before.clear()

    @override(MetricsLogger)
    def log_value(self, key: str | Key, value: Any, **kwargs: Any) -> None:
        self._remember(key)
        super().log_value(key, value, **kwargs)

    @override(MetricsLogger)
    def log_time(self, key: str | Key, **kwargs: Any) -> Any:
        self._remember(key)
        return super().log_time(key, **kwargs)

    def _remember(self, key: str | Key) -> None:
        path = force_tuple(tree.flatten(key))
        if self._recorder == threading.get_ident() and path not in self._before:
            self._before[path] = _copy(self._parent(path).get(path[-1]))

    def _rewind(self) -> None:
        for path, stats in self._before.items():
            if stats is None:
                self._parent(path).pop(path[-1], None)
            else:
                self._parent(path)[path[-1]] = stats
        self._before.clear()

    def _parent(self, path: Key) -> dict[str, Any]:
        level: dict[str, Any] = self.stats
        for name in path[:-1]:
            level = level.get(name, {})
        return level


def _copy(stats: Any) -> Any:
    """Their own containers, the same values: these may hang on a graph, which has no copy."""
    copied = copy.copy(stats)
    if stats is not None:
        for name, value in vars(stats).items():
            if isinstance(value, list | deque | dict):
                setattr(copied, name, copy.copy(value))
    return copied
