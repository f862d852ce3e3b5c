"""Comparing two mathematical expressions with math-verify, under limits that hold.

math-verify and sympy can compute for hours on a short text such as ``9^{9^{9^9}}``, in C code that
no Python exception interrupts, and math-verify's own timeouts work in the main thread only. So they
run in worker processes, which have a memory limit and are killed when their time is up. Workers
start on first use and serve any number of comparisons, from any thread. They are forks of one
process that has imported math-verify, which takes a second: one that was killed is replaced in
hundredths. All end with this process, however it ends.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

_MAX_WORKERS = 4  # each holds about 100 MB; a process seldom grades from more threads at once
_START_TIMEOUT_S = 120.0  # importing sympy takes a second, on an overloaded machine many
_STARVED = 0.5  # a worker that got less of its time as processor time could not do its work
_WORKER_SCRIPT = Path(__file__).with_name("_worker.py")


class ComparisonError(Exception):
    """The comparison came to no verdict: math-verify raised, ran out of memory or crashed."""


class UngradableGoldError(ComparisonError):
    """math-verify finds nothing in the gold answer, or cannot compare it with itself."""


def equivalent(gold: str, answer: str, timeout_s: float, memory_mb: int = 1024) -> bool:
    r"""Return whether math-verify takes an answer for the gold answer. Thread-safe.

    Args:
        gold: A text with the right answer, in ``\boxed{}`` or between dollar signs if it is LaTeX.
            The order matters to math-verify.
        answer: A text with the answer to judge, in the same manner.
        timeout_s: Time the comparison may take, in seconds, without the start of a worker. If the
            machine is too busy to give the worker half of it, the comparison is asked once more.
            Linux only, as other systems do not say.
        memory_mb: Address space the worker may use, in MiB. About 70 are used before it begins.

    Raises:
        TimeoutError: The time was up.
        UngradableGoldError: No answer could be right.
        ComparisonError: The comparison failed.
        RuntimeError: No worker can be started, for instance because math-verify is not installed.
    """
    return _POOL.equivalent(_Request(gold, answer, timeout_s, memory_mb))


def idle_workers() -> list[int]:
    """Return the process ids of the workers that wait for their next comparison."""
    return _POOL.idle_workers()


class _Request(NamedTuple):
    gold: str
    answer: str
    timeout_s: float
    memory_mb: int

    def to_bytes(self) -> bytes:
        limits = [math.ceil(self.timeout_s), self.memory_mb * 2**20]
        return json.dumps([self.gold, self.answer, *limits]).encode()


class _StarvedError(TimeoutError):
    """The time was up, but the worker hardly had a processor."""


class _Template:
    """The process that workers are forks of, and the socket to it; for any thread."""

    def __init__(self) -> None:
        self._control, child_end = multiprocessing.Pipe()
        self._turn = threading.Lock()
        # What this process can import the child can, even if sys.path has changed since the start.
        import_path = os.pathsep.join(map(os.path.abspath, sys.path))
        with child_end:
            self._process = subprocess.Popen(
                # -P: the folder of the script must not come to lie on the child's sys.path.
                [sys.executable, "-P", str(_WORKER_SCRIPT), str(child_end.fileno())],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": import_path},
            )
        try:
            _receive(self._control, _START_TIMEOUT_S)
        except (EOFError, OSError, ComparisonError) as error:
            self.kill()
            raise RuntimeError(f"the math-verify worker did not start: {error!r}") from error
        except BaseException:
            self.kill()
            raise

    def fork(self, connection: Connection) -> int:
        """Start a worker that is given a connection, and return its process id.

        Raises:
            EOFError, OSError: This process is gone.
        """
        with self._turn:
            return self._asked(b"fork", connection)

    def wait(self, pid: int) -> int:
        """Return the exit code of a worker that is ending, minus the signal that killed it."""
        with self._turn:
            try:
                return self._asked(b"%d" % pid)
            except (EOFError, OSError):
                return -signal.SIGKILL  # with this process; nobody knows better

    def kill(self) -> None:
        """End the process and leave no zombie. Its workers end when their connections do."""
        self._process.kill()
        self._control.close()
        self._process.wait()

    def _asked(self, question: bytes, connection: Connection | None = None) -> int:
        try:
            self._control.send_bytes(question)
            if connection is not None:
                send_handle(self._control, connection.fileno(), self._process.pid)
            return int(self._control.recv_bytes())
        except BaseException:  # after an interrupt the next one would have this one's answer
            self.kill()
            raise


class _Worker:
    """One worker process and the socket to it; for one thread at a time."""

    def __init__(self, template: _Template) -> None:
        self._template = template
        self._connection, child_end = multiprocessing.Pipe()
        with child_end:
            self.pid = template.fork(child_end)

    def equivalent(self, request: _Request) -> bool:
        """Compare; after anything but a returned value or a ComparisonError, kill the worker.

        Raises:
            TimeoutError: The time was up; a _StarvedError if that says nothing about the texts.
            ComparisonError: math-verify raised, or has nothing to compare with.
            EOFError, ConnectionError: The process is gone.
        """
        cpu_s = -self._cpu_seconds()
        self._connection.send_bytes(request.to_bytes())
        try:
            equal = _receive(self._connection, request.timeout_s)["equal"]
        except TimeoutError:
            cpu_s += self._cpu_seconds()
            if cpu_s < _STARVED * request.timeout_s:
                raise _StarvedError(f"{cpu_s:.2f} s of a processor") from None
            raise
        if equal is None:
            raise UngradableGoldError(f"no answer could be right: {request.gold!r}")
        return equal

    def kill(self) -> int:
        """End the process, leave no zombie and return its exit code, minus the signal if killed."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._connection.close()
        return self._template.wait(self.pid)

    def _cpu_seconds(self) -> float:
        """Return how long the process has had a processor; not a number if nobody knows."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return math.nan
        user, system = fields[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _receive(connection: Connection, timeout_s: float) -> dict[str, Any]:
    if not connection.poll(timeout_s):
        raise TimeoutError
    message: dict[str, Any] = json.loads(connection.recv_bytes())
    if "error" in message:
        raise ComparisonError(message["error"])
    return message


class _WorkerPool:
    """Workers that wait for their next comparison; as many as there were threads at one time."""

    def __init__(self) -> None:
        self._start_empty()
        # A forked process shares the sockets of its parent's workers: it must not talk on them.
        os.register_at_fork(after_in_child=self._start_empty)
        atexit.register(self.close)

    def _start_empty(self) -> None:
        self._slots = threading.BoundedSemaphore(_MAX_WORKERS)
        self._idle: deque[_Worker] = deque()
        self._template: _Template | None = None
        self._starting = threading.Lock()

    def equivalent(self, request: _Request) -> bool:
        """See the function of this name."""
        try:
            return self._ask(request)
        except _StarvedError as error:
            logger.warning(
                "a comparison had %s in its %g s, as the machine is busy: it is asked once more",
                error, request.timeout_s,
            )  # fmt: skip
            return self._ask(request)

    def _ask(self, request: _Request) -> bool:
        with self._slots:
            while True:
                try:
                    worker, is_fresh = self._idle.pop(), False
                except IndexError:
                    worker, is_fresh = self._new_worker(), True
                try:
                    equal = worker.equivalent(request)
                except ComparisonError:
                    self._idle.append(worker)
                    raise
                except (EOFError, ConnectionError) as error:
                    if worker.kill() == -signal.SIGXCPU:  # before this process saw the time was up
                        raise TimeoutError from error
                    if is_fresh:
                        raise ComparisonError("the worker process died") from error
                    # An idle worker may have died of something else: ask the next one.
                except BaseException:  # after an interrupt the answer would come too late as well
                    worker.kill()
                    raise
                else:
                    self._idle.append(worker)
                    return equal

    def _new_worker(self) -> _Worker:
        with self._starting:
            if self._template is not None:
                with suppress(EOFError, OSError):  # it was killed
                    return _Worker(self._template)
            self._template = _Template()
            return _Worker(self._template)

    def idle_workers(self) -> list[int]:
        """See the function of this name."""
        return [worker.pid for worker in self._idle]

    def close(self) -> None:
        """End all idle workers, and what they are forks of."""
        while self._idle:
            self._idle.pop().kill()
        with self._starting:
            if self._template is not None:
                self._template.kill()
            self._template = None


_POOL = _WorkerPool()
