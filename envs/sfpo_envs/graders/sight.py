"""Comparing two answers as text and as exact numbers, in microseconds."""

from __future__ import annotations

import re
from fractions import Fraction

_SPACING = re.compile(r"\\[!,;: ]|\\(?:left|right|displaystyle)(?![a-zA-Z])")
# White space between two words or numbers stays: "1 1/2" is not "11/2", nor "\pi r" a command.
_IDLE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_RATIONAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*|/0*[1-9][0-9]*)?|\.[0-9]+)")


def bare(text: str) -> str:
    """Return an answer without dollar signs around it, with ASCII minus signs."""
    return text.strip().strip("$").strip().replace("\u2212", "-")


def equal_at_sight(gold: str, answer: str) -> bool | None:
    """Compare as text and as exact numbers; ``None`` if that does not decide it."""
    gold, answer = canonical(gold), canonical(answer)
    if gold == answer:
        return True
    gold_value, value = rational(gold), rational(answer)
    if gold_value is None or value is None:
        return None
    if gold_value == value:
        return True
    # Different integers differ; of other numbers, math-verify takes close ones for equal.
    return False if gold_value.denominator == value.denominator == 1 else None


def canonical(text: str) -> str:
    """Return an answer without what only lays it out."""
    text = _SPACING.sub(" ", text.replace("{,}", ","))
    text = _FRACTION.sub(r"\1\2/\3", _IDLE_SPACE.sub("", text))
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def rational(text: str) -> Fraction | None:
    """Return the value of an integer, a decimal or a fraction ``a/b``, ``None`` of other text."""
    return Fraction(text) if _RATIONAL.fullmatch(text) else None
