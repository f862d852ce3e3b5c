"""Arithmetic in untrusted text: exact values, bounded work and no ``eval``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

MAX_CHARS = 1000
"""Longest expression."""
MAX_DEPTH = 50
"""Deepest nesting of parentheses, signs and powers."""
MAX_DIGITS = 100
"""Longest number in an expression, in digits."""
MAX_EXPONENT = 1000
"""Largest exponent, of either sign."""
MAX_BITS = 4096
"""Longest numerator and denominator of a value; some 1200 digits, which Python still prints."""

NEGATION = "neg"
"""How :attr:`Expression.operators` names the sign of ``-3``."""

_OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
# One character for one, so that positions stay those of the text: minus, times, dots, division.
_LOOKALIKES = str.maketrans("\u2212\u00d7\u00b7\u22c5\u00f7", "-***/")
_TOKEN = re.compile(
    r"(?P<token>[0-9]+\.?[0-9]*|\.[0-9]+|\*\*|[-+*/^()])|\s+|(?P<other>.)", re.DOTALL
)
_NUMBER = re.compile(
    r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?(?:/0*[1-9][0-9]*)?|[-+]?\.[0-9]+"
)


class ExpressionError(ValueError):
    """Text that is not an expression, or one that cannot be evaluated within the limits.

    Attributes:
        problem: What is wrong.
        position: Where: an index into the text.
    """

    def __init__(self, problem: str, position: int) -> None:
        """Create the error."""
        super().__init__(f"{problem} at character {position + 1}")
        self.problem = problem
        self.position = position


@dataclass(frozen=True)
class Expression:
    """An expression that was evaluated.

    Attributes:
        value: Its exact value.
        numbers: The numbers in it, in order.
        operators: The operators in it, in the order they were applied: ``+``, ``-``, ``*``, ``/``,
            ``**``, and :data:`NEGATION`.
    """

    value: Fraction
    numbers: tuple[Fraction, ...]
    operators: tuple[str, ...]


def evaluate(text: str) -> Expression:
    """Evaluate an expression of numbers, ``+ - * / **`` and parentheses.

    Numbers are integers and decimals; powers bind as in Python, and ``^`` is one too. The minus,
    times and division signs of typography are understood. Whatever the text, the answer comes
    within milliseconds: length, depth, digits, exponents and values are limited.

    Args:
        text: The expression; any string.

    Returns:
        Its exact value, and what it is made of.

    Raises:
        ExpressionError: It is not an expression, divides by zero, or is beyond a limit.
    """
    if len(text) > MAX_CHARS:
        raise ExpressionError(f"more than {MAX_CHARS} characters", MAX_CHARS)
    return _Parser(text.translate(_LOOKALIKES)).parse()


def parse_number(text: str) -> Fraction | None:
    """Return the value of an integer, a decimal or a fraction ``a/b``, ``None`` for other text.

    Args:
        text: Any string. A thousands separator is understood, an operation is not.
    """
    text = text.strip().translate(_LOOKALIKES)
    if len(text) > MAX_BITS // 4 or not _NUMBER.fullmatch(text):
        return None
    numerator, _, denominator = text.replace(",", "").partition("/")
    return Fraction(numerator) / int(denominator or 1)


class _Token(NamedTuple):
    text: str
    position: int


class _Parser:
    """Recursive descent; each method takes one level of precedence."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._numbers: list[Fraction] = []
        self._operators: list[str] = []

    def parse(self) -> Expression:
        value = self._sum(depth=0)
        rest = self._tokens[self._next]
        if rest.text:
            raise ExpressionError(f"unexpected {rest.text!r}", rest.position)
        return Expression(value, tuple(self._numbers), tuple(self._operators))

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while token := self._accept("+", "-"):
            value = self._apply(token, value, self._product(depth))
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while token := self._accept("*", "/"):
            value = self._apply(token, value, self._signed(depth))
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            position = self._tokens[self._next].position
            raise ExpressionError(f"nested more than {MAX_DEPTH} deep", position)
        token = self._accept("+", "-")
        if token is None:
            return self._power(depth)
        value = self._signed(depth + 1)
        if token.text == "+":
            return value
        self._operators.append(NEGATION)
        return -value

    def _power(self, depth: int) -> Fraction:
        base = self._atom(depth)
        token = self._accept("**", "^")
        if token is None:
            return base
        exponent = self._signed(depth + 1)
        self._operators.append("**")
        if exponent.denominator != 1:
            raise ExpressionError("the exponent is not an integer", token.position)
        if base == 0 and exponent < 0:
            raise ExpressionError("division by zero", token.position)
        if abs(exponent) > MAX_EXPONENT or _num_bits(base) * abs(exponent) > MAX_BITS:
            raise ExpressionError("too large", token.position)
        return base ** int(exponent)

    def _atom(self, depth: int) -> Fraction:
        token = self._tokens[self._next]
        if token.text == "(":
            self._next += 1
            value = self._sum(depth + 1)
            if self._accept(")") is None:
                raise ExpressionError("expected ')'", self._tokens[self._next].position)
            return value
        if not token.text or token.text[0] not in "0123456789.":
            found = f"found {token.text!r}" if token.text else "found the end"
            raise ExpressionError(f"expected a number, {found}", token.position)
        if len(token.text) > MAX_DIGITS:
            raise ExpressionError(f"a number of more than {MAX_DIGITS} digits", token.position)
        self._next += 1
        self._numbers.append(Fraction(token.text))
        return self._numbers[-1]

    def _accept(self, *symbols: str) -> _Token | None:
        token = self._tokens[self._next]
        if token.text not in symbols:
            return None
        self._next += 1
        return token

    def _apply(self, token: _Token, left: Fraction, right: Fraction) -> Fraction:
        self._operators.append(token.text)
        if token.text == "/" and right == 0:
            raise ExpressionError("division by zero", token.position)
        value = _OPERATIONS[token.text](left, right)
        if _num_bits(value) > MAX_BITS:
            raise ExpressionError("too large", token.position)
        return value


def _num_bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _tokens(text: str) -> list[_Token]:
    """Return the tokens of a text, and one without text that marks its end."""
    tokens = []
    for found in _TOKEN.finditer(text):
        if found["other"]:
            raise ExpressionError(f"unexpected {found[0]!r}", found.start())
        if found["token"]:
            tokens.append(_Token(found[0], found.start()))
    return [*tokens, _Token("", len(text))]
