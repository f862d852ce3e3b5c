r"""The grader of numbers that allows for a tolerance, and computes with fractions only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from sfpo_envs.graders.extraction import EXTRACTORS, MAX_REPLY_CHARS, check_extraction
from sfpo_envs.graders.glyphs import with_fractions
from sfpo_envs.graders.grade import Grade, Verdict, check_gold
from sfpo_envs.graders.raised_units import is_exponent_of_unit
from sfpo_envs.graders.thousands import joined

Percent = Literal["fraction", "ignore", "refuse"]

_MAX_NUMBER_CHARS = 1000


@dataclass
class NumericGrader:
    r"""Compares the number of a reply with the gold answer's.

    A number is an integer, a decimal, ``1.5e3``, ``1.5 \times 10^{3}``, ``a/b`` or ``\frac{a}{b}``,
    or one of the last two behind an integer: ``1 1/2``. Exponents of units are none.
    Of a whole reply the last number counts; an answer found in another way must hold exactly one.

    Attributes:
        extraction: How the answer is found in a reply: a key of
            :data:`~sfpo_envs.graders.extraction.EXTRACTORS`.
        relative_tolerance: Largest difference that counts as none, as a share of the gold number.
        absolute_tolerance: Largest difference that counts as none; the larger of the two applies.
        percent: What ``50%`` is: ``"fraction"`` 0.5, ``"ignore"`` 50, ``"refuse"`` no number.
        thousands: What separates thousands besides spaces, ``","`` for instance; with ``""``
            nothing does.
        decimal: The decimal mark.
    """

    extraction: str = "whole"
    relative_tolerance: float = 1e-6
    absolute_tolerance: float = 0.0
    percent: Percent = "fraction"
    thousands: str = ","
    decimal: str = "."

    def __post_init__(self) -> None:
        check_extraction(self.extraction)
        for name in ("relative_tolerance", "absolute_tolerance"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be a number, and not negative")
        if self.percent not in get_args(Percent):
            raise ValueError(f"percent={self.percent!r}: must be one of {get_args(Percent)}")
        if len(self.decimal) != 1 or self.decimal.isalnum():
            raise ValueError(f"decimal={self.decimal!r}: must be one mark, such as '.'")
        if self.thousands and (len(self.thousands) != 1 or self.thousands in self.decimal + "+-"):
            raise ValueError(f"thousands={self.thousands!r}: must be '' or a mark of its own")
        self._number = _number_pattern(self.thousands, self.decimal)

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade a reply."""
        gold_numbers = [] if check_gold(gold) else self._find(gold)
        gold_value = self._value(gold_numbers[0]) if len(gold_numbers) == 1 else None
        if gold_value is None:
            return Grade(Verdict.UNGRADABLE_GOLD)
        answer = EXTRACTORS[self.extraction](reply)
        numbers = [] if answer is None else self._find(answer)
        if answer is None or not numbers:
            return Grade(Verdict.NO_ANSWER, answer)
        if self.extraction != "whole" and len(numbers) > 1:
            return Grade(Verdict.WRONG, answer)
        value = self._value(numbers[-1])
        is_right = value is not None and self._is_near(value, gold_value)
        return Grade(Verdict.CORRECT if is_right else Verdict.WRONG, numbers[-1][0])

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two numbers that were found are the same."""
        sides = [self._find(text) for text in (gold, answer)]
        if not all(len(numbers) == 1 for numbers in sides):
            return False
        first, second = (self._value(numbers[0]) for numbers in sides)
        return first is not None and second is not None and self._is_near(second, first)

    def _find(self, text: str) -> list[re.Match[str]]:
        text = with_fractions(text[-MAX_REPLY_CHARS:]).replace("\u2212", "-").replace("{,}", ",")
        text = joined(text) if self.thousands else text
        found = self._number.finditer(text)
        return [number for number in found if not is_exponent_of_unit(text, number.start())]

    def _value(self, number: re.Match[str]) -> Fraction | None:
        if len(number[0]) > _MAX_NUMBER_CHARS:
            return None
        if number["percent"] and self.percent == "refuse":
            return None
        sign = -1 if number["sign"] == "-" else 1
        over = number["over"] or number["tex_over"] or number["digit_over"]
        under = number["under"] or number["tex_under"] or number["digit_under"] or "1"
        value, divisor = self._decimal(over), self._decimal(under)
        if divisor == 0:
            return None
        value /= divisor
        if value < 1:
            value += int(number["mixed"] or 0)
        value *= sign
        value *= Fraction(10) ** int(number["exponent"] or number["tex_exponent"] or 0)
        return value / 100 if number["percent"] and self.percent == "fraction" else value

    def _decimal(self, text: str) -> Fraction:
        return Fraction(text.replace(self.thousands, "").replace(self.decimal, "."))

    def _is_near(self, value: Fraction, gold: Fraction) -> bool:
        relative, absolute = Fraction(self.relative_tolerance), Fraction(self.absolute_tolerance)
        return abs(value - gold) <= max(relative * abs(gold), absolute)


def _number_pattern(thousands: str, decimal: str) -> re.Pattern[str]:
    """Return what finds a number; its groups are the parts that :class:`NumericGrader` reads."""
    point = re.escape(decimal)
    groups = rf"[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+(?![0-9])|" if thousands else ""
    digits = rf"(?:(?:{groups}[0-9]+)(?:{point}[0-9]+)?|{point}[0-9]+)"
    return re.compile(
        # A minus sign belongs to the number unless it can subtract.
        r"(?P<sign>(?<![\w)\]}])[+-])?"
        # A whole number belongs to the fraction behind it.
        r"(?:(?P<mixed>(?<![\w.,/])[0-9]{1,4})"
        r"(?:[ \u00a0](?=[0-9]{1,3}/[0-9]{1,3}(?![0-9/]))|\s?(?=\\[dtc]?frac[\s0-9{])))?"
        rf"(?:(?P<over>{digits})(?:/(?P<under>{digits}))?"
        rf"|\\[dtc]?frac\{{(?P<tex_over>{digits})\}}\{{(?P<tex_under>{digits})\}}"
        r"|\\[dtc]?frac\s?(?P<digit_over>[0-9])\s?(?P<digit_under>[0-9]))"
        r"(?:[eE](?P<exponent>[+-]?[0-9]{1,3})(?![\w])"
        r"|\s?(?:\\times|\\cdot|\*|\u00d7)\s?10\^\{?(?P<tex_exponent>[+-]?[0-9]{1,3})(?![0-9])\}?)?"
        r"(?P<percent>\s?\\?%)?"
    )
