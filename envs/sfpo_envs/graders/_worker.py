r"""The process in which math-verify runs; started by :mod:`sfpo_envs.graders.pool`, never imported.

It is run by its path, so that it loads neither gymnasium nor the rest of the package. Messages are
JSON, not pickles: what was computed from a reply must not be able to run code in the parent.

    in:  [gold, answer, timeout in whole seconds, memory in bytes]
    out: first {"ready": true} or {"error": text}, then for each request {"equal": bool},
         {"equal": null} if the gold cannot even be compared with itself, or {"error": text}
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_NUM_GOLDS_KEPT = 256  # a group of replies has the same
_APART = 1e-3  # relative; farther than any tolerance
_NEAR = 1e-9
_PERCENT = re.compile(r"%|percent|pct")  # 10% is 10, and 0.1


def main() -> None:
    """Answer requests on the socket whose descriptor is the first argument, until it closes."""
    connection = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    logging.disable(logging.CRITICAL)  # math-verify warns that its own timeouts are off
    _set_soft_limit(resource.RLIMIT_CORE, 0)
    # These mean that the parent has closed its end of the socket, or is gone.
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(connection)


def _serve(connection: Connection) -> None:
    try:
        compare = _load_comparison()
        compare("$(x+1)^2$", "$x^2+2x+1$")  # loads the rest: the first request need not wait for it
    except ImportError as error:
        _send(connection, {"error": f"{type(error).__name__}: {error}"})
        return
    _send(connection, {"ready": True})
    while True:
        gold, answer, timeout_s, memory_bytes = json.loads(connection.recv_bytes())
        _limit_cpu_time(timeout_s)
        if sys.platform == "linux":  # macOS refuses to lower it
            _set_soft_limit(resource.RLIMIT_AS, memory_bytes)
        try:
            equal = compare(gold, answer)
        except BaseException as error:  # hostile text can also raise SystemExit
            _send(connection, {"error": type(error).__name__})
            if isinstance(error, MemoryError):
                return  # what is left of the memory may not do for the next comparison
        else:
            _send(connection, {"equal": equal})


def _load_comparison() -> Callable[[str, str], bool | None]:
    """Import math-verify and return what compares a gold answer with another."""
    import math_verify

    _quicken_latex()
    # Its own timeouts would have to be whole seconds, and a repeated gold need not be parsed again.
    parse = functools.partial(math_verify.parse, parsing_timeout=None, raise_on_error=True)
    parse_gold = functools.lru_cache(_NUM_GOLDS_KEPT)(parse)
    verify = functools.partial(math_verify.verify, timeout_seconds=None, raise_on_error=True)

    def compare(gold: str, answer: str) -> bool | None:
        try:
            expected, found = parse_gold(gold), parse(answer)
            if not expected:
                return None
            equal = None if _PERCENT.search(gold + answer) else _compare_numbers(expected, found)
            return bool(verify(expected, found)) if equal is None else equal
        except MemoryError:
            raise
        except Exception:
            try:
                verify(parse_gold(gold), parse_gold(gold))
            except Exception:
                return None
            raise

    return compare


def _compare_numbers(gold: list[Any], answer: list[Any]) -> bool | None:
    """Compare two numbers that are one, or differ by more than any tolerance; ``None`` otherwise.

    math-verify comes to the same, but by evaluating, then simplifying, their difference.
    """
    try:
        if not (gold[0].is_number and answer[0].is_number):
            return None
        expected, found = complex(gold[0].evalf(15)), complex(answer[0].evalf(15))
        distance = abs(expected - found) / max(1, abs(expected), abs(found))
        if distance > _APART:
            return False
        # Also of nan, of which nothing is known, this is false.
        return True if distance < _NEAR and gold[0].doit() == answer[0].doit() else None
    except (AttributeError, IndexError, TypeError, ValueError, ArithmeticError):
        return None


def _quicken_latex() -> None:
    """Make the LaTeX parser under math-verify several times as fast, with the same results.

    It looks at the whole context wherever the grammar seems ambiguous, though nearly no text needs
    that: ANTLR's quick mode gives the same tree or fails, and only then is the text parsed again.
    And it has each integer read by sympy's parser of Python expressions.
    """
    import sympy
    from antlr4 import PredictionMode
    from latex2sympy2_extended import latex2sympy2

    class QuickLatex2Sympy(latex2sympy2._Latex2Sympy):
        mode = PredictionMode.SLL

        def create_parser(self, latex_str: str) -> Any:
            parser = super().create_parser(latex_str)
            parser._interp.predictionMode = self.mode
            return parser

        def parse(self, latex_str: str) -> Any:
            try:
                return super().parse(latex_str)
            except Exception:
                if self.mode == PredictionMode.LL:
                    raise
            self.mode = PredictionMode.LL
            return super().parse(latex_str)

        def parse_number(self, text: str) -> Any:
            if text.isascii() and text.isdigit():
                return sympy.Integer(int(text))
            return super().parse_number(text)

    latex2sympy2._Latex2Sympy = QuickLatex2Sympy


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
