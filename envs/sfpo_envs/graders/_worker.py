r"""The process in which math-verify runs; started by :mod:`sfpo_envs.graders.pool`, never imported.

It is run by its path, so that it loads neither gymnasium nor the rest of the package. It imports
math-verify and then forks a worker whenever it is asked to:

    in:  b"fork", followed by the descriptor of the worker's socket; or a worker's process id
    out: first {"ready": true} or {"error": text}, then the worker's process id; or its exit code,
         minus the signal that killed it, once it has ended

Messages of a worker are JSON, not pickles: what was computed from a reply must not be able to run
code in the parent.

    in:  [gold, answer, timeout in whole seconds, memory in bytes]
    out: for each request {"equal": bool}, {"equal": null} if the gold cannot even be compared with
         itself, or {"error": text}
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import logging
import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

Compare = Callable[[str, str], bool | None]

_NUM_GOLDS_KEPT = 256  # a group of replies has the same
_APART = 1e-3  # as a share; farther than any tolerance
_NEAR = 1e-9
# How far a decimal may be from what it stands for: as where numbers are compared at sight.
_TOLERANCE, _SMALL_TOLERANCE = 5e-7, 1e-5
_PRECISION = 1e-14  # of what is computed, as a share
_PERCENT = re.compile(r"%|percent|pct")  # 10% is 10, and 0.1
_BOX = re.compile(r"\\boxed\{((?!\\boxed).)*\}", re.DOTALL)
_BRACES = re.compile(r"\\(?:\{|lbrace)")


def main() -> None:
    """Fork workers for who holds the other end of the socket of the first argument."""
    control = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    logging.disable(logging.CRITICAL)  # math-verify warns that its own timeouts are off
    _set_soft_limit(resource.RLIMIT_CORE, 0)
    try:
        compare = _load_comparison()
        compare("$(x+1)^2$", "$x^2+2x+1$")  # loads the rest: no worker need do so
    except ImportError as error:
        _send(control, {"error": f"{type(error).__name__}: {error}"})
        return
    gc.freeze()  # workers' garbage collection would copy all that is imported
    _send(control, {"ready": True})
    # These mean that the parent has closed its end of a socket, or is gone.
    with contextlib.suppress(EOFError, ConnectionError):
        _fork_workers(control, compare)


def _fork_workers(control: Connection, compare: Compare) -> None:
    while True:
        question = control.recv_bytes()
        if question != b"fork":
            _, status = os.waitpid(int(question), 0)
            control.send_bytes(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        descriptor = recv_handle(control)
        if (pid := os.fork()) == 0:
            control.close()
            return _serve(Connection(descriptor), compare)
        os.close(descriptor)
        control.send_bytes(b"%d" % pid)


def _serve(connection: Connection, compare: Compare) -> None:
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


def _load_comparison() -> Compare:
    """Import math-verify and return what compares a gold answer with another."""
    import math_verify

    _quicken_latex()
    _compare_small_numbers()
    # Its own timeouts would have to be whole seconds, and a repeated gold need not be parsed again.
    options: dict[str, Any] = {"parsing_timeout": None, "raise_on_error": True}

    def parse(text: str) -> list[Any]:
        # All that a box holds is the answer: a fraction found somewhere in it is not.
        mode = "first_match" if _BOX.fullmatch(text) else "any_match"
        return math_verify.parse(text, extraction_mode=mode, **options)

    parse_gold = functools.lru_cache(_NUM_GOLDS_KEPT)(parse)
    verify = functools.partial(math_verify.verify, timeout_seconds=None, raise_on_error=True)

    def compare(gold: str, answer: str) -> bool | None:
        try:
            expected, found = parse_gold(gold), parse(answer)
            if not expected:
                return None
            equal = None if _PERCENT.search(gold + answer) else _compare_numbers(expected, found)
            if equal is not None:
                return equal
            if verify(expected, found):
                return _repeat_alike(gold, expected, answer, found)
            return _equal_in_complex_numbers(expected, found)
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
        if not expected or not found:  # or too small for a float
            return None
        distance = abs(expected - found) / max(abs(expected), abs(found))
        if distance > _APART:
            return False
        # Also of nan, of which nothing is known, this is false.
        return True if distance < _NEAR and gold[0].doit() == answer[0].doit() else None
    except (AttributeError, IndexError, TypeError, ValueError, ArithmeticError):
        return None


def _equal_in_complex_numbers(gold: list[Any], answer: list[Any]) -> bool:
    """Compare two numbers of which one has an i, which math-verify takes for a variable."""
    from math_verify import grader
    from sympy import Expr, I

    if not (gold and answer and isinstance(gold[0], Expr) and isinstance(answer[0], Expr)):
        return False
    letters = gold[0].free_symbols | answer[0].free_symbols
    if {letter.name for letter in letters} != {"i"}:
        return False
    numbers = [one[0].subs(dict.fromkeys(letters, I)) for one in (gold, answer)]
    return bool(grader.sympy_numeric_eq(*numbers, 6, 15))


def _repeat_alike(gold: str, expected: list[Any], answer: str, found: list[Any]) -> bool:
    """Tell whether two lists, equal as sets, have each item as often; in braces it counts once."""
    from math_verify.grader import sympy_expr_eq

    lists = [getattr(one[0], "_unsorted_args", None) for one in (expected, found)]
    if not any(lists) or _BRACES.search(gold):
        return True
    golds, answers = (
        items or [one[0]] for items, one in zip(lists, (expected, found), strict=True)
    )
    if len(set(golds)) == len(golds) and len(set(answers)) == len(answers):
        return True
    in_gold, in_answer = Counter(golds), Counter(answers)
    for item, times in in_gold.items():
        same = [one for one in in_answer if one == item or sympy_expr_eq(item, one, 6, 15)]
        if sum(map(in_answer.pop, same)) != times:
            return bool(_BRACES.search(answer)) and times == 1
    return True


def _compare_small_numbers() -> None:
    """Have math-verify compare numbers by their difference as a share of the gold number.

    It rounds decimals to six places, and takes for zero what is less than 1e-15, wherever numbers
    are: alone, in tuples, sets, intervals and matrices.
    """
    from math_verify import grader
    from sympy import Float, Integral, Limit, MatrixBase, Product, Sum, UnevaluatedExpr

    stock, stock_solve_and_compare = grader.sympy_numeric_eq, grader.sympy_solve_and_compare
    inexact = (Float, Integral, Limit, Product, Sum)

    def numeric_eq(gold: Any, answer: Any, float_rounding: int, numeric_precision: int) -> bool:
        if not (getattr(gold, "is_number", False) and getattr(answer, "is_number", False)):
            is_right = stock(gold, answer, float_rounding, numeric_precision)
            return is_right and (isinstance(gold, MatrixBase) or leaves_nothing(gold, answer))
        pairs = [(gold, answer)]
        if gold.has(UnevaluatedExpr) or answer.has(UnevaluatedExpr):  # a percent sign
            pairs.append((grader.get_pct_val(gold, gold), grader.get_pct_val(answer, answer)))
        return any(differ(*pair) is False for pair in pairs)

    def differ(gold: Any, answer: Any) -> bool | None:
        """Tell whether two numbers differ, ``None`` if they cannot be evaluated."""
        gold, answer = gold.doit(), answer.doit()
        if gold == answer:
            return False
        if gold.is_Rational and answer.is_Rational:
            return True
        size, distance = abs(gold.evalf(15)), abs((gold - answer).evalf(15))
        if not (size.is_number and distance.is_number and size.is_finite and distance.is_finite):
            return None
        is_exact = not (gold.has(*inexact) or answer.has(*inexact))
        allowed = size * (_PRECISION**5 if is_exact else _PRECISION)
        if (gold.has(Float) or answer.has(Float)) and not gold.is_Integer:
            allowed = max(allowed, min(_TOLERANCE, size * _SMALL_TOLERANCE))
        return bool(distance > allowed)

    def leaves_nothing(gold: Any, answer: Any) -> bool:
        """Tell whether no term of a difference that is nearly zero is so for being small."""
        difference = (gold - answer).expand().evalf(15).as_coefficients_dict()
        terms = gold.expand().evalf(15).as_coefficients_dict()
        return all(
            abs(coefficient) <= abs(terms[term]) * _PRECISION
            for term, coefficient in difference.items()
            if coefficient and term in terms
        )

    def solve_and_compare(gold: Any, answer: Any, *settings: int) -> bool:
        # Without unknowns there is no solution, as there is none of 1 = 2.
        has_unknowns = bool(gold.free_symbols and answer.free_symbols)
        return has_unknowns and stock_solve_and_compare(gold, answer, *settings)

    grader.sympy_numeric_eq = numeric_eq
    grader.sympy_solve_and_compare = solve_and_compare


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
