"""Results of a slow function that all graders of a process share."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future


class ResultCache:
    """Remembers the results that were asked for last, by what was asked. Thread-safe.

    Of equal requests that overlap in time one is computed, and the others wait for what it returns
    or raises. What raises is not remembered. An entry takes about 200 bytes, however long its
    request is.
    """

    def __init__(self) -> None:
        self.clear()
        # Another thread may hold the lock at a fork, or compute what the child would wait for.
        os.register_at_fork(after_in_child=self.clear)

    def __len__(self) -> int:
        return len(self._results)

    def clear(self) -> None:
        """Forget everything, and how much is to be remembered."""
        self._lock = threading.Lock()
        self._results: OrderedDict[bytes, bool] = OrderedDict()
        self._under_way: dict[bytes, Future[bool]] = {}
        self._size = 0

    def get(self, request: tuple[str | float, ...], compute: Callable[[], bool], size: int) -> bool:
        """Return the result for a request, computed unless it is known.

        Args:
            request: All that the result depends on.
            compute: Computes it.
            size: How many results are to be remembered. The largest number ever asked for holds;
                0 only computes.
        """
        if size == 0:
            return compute()
        key = hashlib.blake2b(repr(request).encode(), digest_size=16).digest()
        while True:
            with self._lock:
                self._size = max(self._size, size)
                if key in self._results:
                    self._results.move_to_end(key)
                    return self._results[key]
                others = self._under_way.get(key)
                if others is None:
                    mine: Future[bool] = Future()
                    self._under_way[key] = mine
                    break
            try:
                return others.result()
            except CancelledError:
                pass  # whoever computed it was interrupted, which is nothing to this thread
        try:
            result = compute()
        except BaseException as error:
            self._finish(key)
            if isinstance(error, Exception):
                mine.set_exception(error)
            else:
                mine.cancel()
            raise
        self._finish(key, result)
        mine.set_result(result)
        return result

    def _finish(self, key: bytes, result: bool | None = None) -> None:
        with self._lock:
            self._under_way.pop(key, None)
            if result is not None:
                self._results[key] = result
                while len(self._results) > self._size:
                    self._results.popitem(last=False)
