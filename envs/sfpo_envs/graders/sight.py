r"""Comparing two answers as text and as exact numbers, in microseconds."""

from __future__ import annotations

import re
from fractions import Fraction

_SPACING = re.compile(r"\\[,;: ]|\\(?:left|right|displaystyle)(?![a-zA-Z])")
_NEGATIVE_SPACE = re.compile(r"\\!\s*")
# White space between two words or numbers stays: "1 1/2" is not "11/2", nor "\pi r" a command.
_IDLE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
# Without spaces after the commas: "100, 200" is a list.
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?:\.[0-9]+)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<whole>[0-9]+)(?: |(?=\\)))?"
    r"(?:(?P<over>[0-9]+)/(?P<under>[0-9]+)"
    r"|\\[dtc]?frac\{(?P<tex_over>[0-9]+)\}\{(?P<tex_under>[0-9]+)\}"
    r"|\\[dtc]?frac(?P<digit_over>[0-9])(?P<digit_under>[0-9]))"
)
_APART = Fraction(1, 1000)


def bare(text: str) -> str:
    """Return an answer without dollar signs around it, with ASCII minus signs."""
    return text.strip().strip("$").strip().replace("\u2212", "-")


def equal_at_sight(gold: str, answer: str) -> bool | None:
    """Compare as text and as exact numbers; ``None`` if that does not decide it."""
    gold, answer = _canonical(gold), _canonical(answer)
    if gold == answer:
        return True
    gold_value, value = _rational(gold), _rational(answer)
    if gold_value is None or value is None:
        return None
    if gold_value == value:
        return True
    if gold_value.denominator == value.denominator == 1:
        return False
    # Whether 0.33 is near enough to 1/3 is not decided here, whether 0.4 is can be.
    far = abs(gold_value - value) > _APART * max(Fraction(1), abs(gold_value), abs(value))
    return False if far else None


def _canonical(text: str) -> str:
    """Return an answer without what only lays it out."""
    text = _NEGATIVE_SPACE.sub("", text.replace("{,}", ","))
    text = _SPACING.sub(" ", text).strip()
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "").replace(" ", "")
    return _IDLE_SPACE.sub("", text)


def _rational(text: str) -> Fraction | None:
    r"""Return the value of a decimal, a fraction or a mixed number, ``None`` of other text."""
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    match = _FRACTION.fullmatch(text)
    if not match:
        return None
    sign, whole, *parts = match.groups()
    over, under = (int(part) for part in parts if part is not None)
    if under == 0:
        return None
    value = int(whole or 0) + Fraction(over, under)
    return -value if sign == "-" else value
