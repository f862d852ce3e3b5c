r"""Finding texts that sympy would compute on for ages, without computing.

Worker processes have limits that hold for any text. But to reach a limit costs seconds, and a new
worker; these checks cost microseconds, and no answer to a real problem comes near them.
"""

from __future__ import annotations

import math
import re

_MAX_DEPTH = 20
_MAX_DIGITS = 20_000  # of a power
_MAX_COUNT_DIGITS = 4  # of what a sum, product, factorial or binomial coefficient runs over

_BRACKET = re.compile(r"[{(\[]|[})\]]")
_NUMBER = re.compile(r"[0-9]+")
_POWERS = re.compile(r"[0-9]+(?:[\s{}()]*(?:\^|\*\*)[-\s{}()]*[0-9]+)*")
_FACTORIAL = re.compile(r"([0-9]+)[\s{}()]*!|![\s{}()]*!")
# In \sum_{k=1}^{10^8}, 1 is no base.
_COUNTING = re.compile(r"\\(?:[dt]?binom|choose|sum|prod)[^$]{0,60}")


def is_too_costly(text: str) -> bool:
    """Return whether the value of an expression in a text is not to be computed."""
    return (
        _is_deep(text)
        or any(_is_long(powers[0], _MAX_DIGITS) for powers in _POWERS.finditer(text))
        or any(
            not factorial[1] or _is_long(factorial[1], _MAX_COUNT_DIGITS)
            for factorial in _FACTORIAL.finditer(text)
        )
        or any(
            _is_long(powers[0], _MAX_COUNT_DIGITS)
            for operator in _COUNTING.finditer(text)
            for powers in _POWERS.finditer(operator[0].replace("}^", "} "))
        )
    )


def _is_deep(text: str) -> bool:
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] in "{([" else max(depth - 1, 0)
        if depth > _MAX_DEPTH:
            return True
    return False


def _is_long(powers: str, max_digits: int) -> bool:
    """Tell whether the value of ``a``, ``a^b`` or ``a^b^c`` has too many digits, by logarithms."""
    numbers = _NUMBER.findall(powers)
    base, exponents = numbers[0], numbers[1:]
    log_value = 0.0  # of the exponent so far
    for number in reversed(exponents):
        log_value = _log10(number) * 10**log_value
        if log_value > 6:
            return _log10(base) > 0
    return _log10(base) * 10**log_value >= max_digits


def _log10(number: str) -> float:
    """Logarithm of an integer; 0 of 0 and 1."""
    return len(number) - 16 if len(number) > 300 else math.log10(max(int(number), 1))
