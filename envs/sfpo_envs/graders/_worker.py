r"""The process in which math-verify runs; started by :mod:`sfpo_envs.graders.pool`, never imported.

It is run by its path, so that it loads neither gymnasium nor the rest of the package. Messages are
JSON, not pickles: what was computed from a reply must not be able to run code in the parent.

    in:  [gold, answer, timeout in whole seconds]
    out: first {"ready": true} or {"error": text}, then for each request {"equal": bool} or
         {"error": text}
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

_MAX_MEMORY_BYTES = 1024**3


def main() -> None:
    """Answer requests on the socket whose descriptor is the first argument, until it closes."""
    connection = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    logging.disable(logging.CRITICAL)  # math-verify warns that its own timeouts are off
    _set_soft_limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # macOS refuses to lower it
        _set_soft_limit(resource.RLIMIT_AS, _MAX_MEMORY_BYTES)
    # These mean that the parent has closed its end of the socket, or is gone.
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(connection)


def _serve(connection: Connection) -> None:
    try:
        from math_verify import parse, verify
    except ImportError as error:
        _send(connection, {"error": f"{type(error).__name__}: {error}"})
        return
    _send(connection, {"ready": True})
    while True:
        gold, answer, timeout_s = json.loads(connection.recv_bytes())
        _limit_cpu_time(timeout_s)
        try:
            equal = verify(
                parse(rf"\boxed{{{gold}}}", parsing_timeout=None),
                parse(rf"\boxed{{{answer}}}", parsing_timeout=None),
                timeout_seconds=None,
                raise_on_error=True,
            )
        except BaseException as error:  # hostile text can also raise SystemExit
            _send(connection, {"error": type(error).__name__})
            if isinstance(error, MemoryError):
                return  # what is left of the memory may not do for the next comparison
        else:
            _send(connection, {"equal": bool(equal)})


def _limit_cpu_time(seconds: int) -> None:
    """Let the kernel end this process if the parent, whose task that is, has died meanwhile."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    _set_soft_limit(resource.RLIMIT_CPU, used + seconds + 2)


def _set_soft_limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (soft, hard))


def _send(connection: Connection, message: dict[str, object]) -> None:
    connection.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    main()
    os._exit(0)  # nothing to clean up, and sympy's caches take a while to free
