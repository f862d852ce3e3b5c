r"""Comparing two answers as text and as exact numbers, in microseconds."""

from __future__ import annotations

import re
from fractions import Fraction

from sfpo_envs.graders.clock import equal_ratios, equal_times
from sfpo_envs.graders.spelling import TEXT_COMMAND

TOLERANCE = Fraction(1, 2_000_000)
"""How far a decimal may be from what it stands for: it agrees to six decimals."""
SMALL_TOLERANCE = Fraction(1, 100_000)
"""How far it may be as a share of the gold number, which counts if that is small."""

_SPACING = re.compile(r"\\[,;: ]|~|\\(?:left|right|displaystyle)(?![a-zA-Z])")
_ALL_TEXT = re.compile(rf"{TEXT_COMMAND}\s*\{{([^{{}}]*)\}}")
_NEGATIVE_SPACE = re.compile(r"\\!\s*")
# White space between two words or numbers stays: "1 1/2" is not "11/2", nor "\pi r" a command.
_IDLE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_WIDE_SPACE = re.compile(r"\s\s+")
# Without spaces after the commas: "100, 200" is a list.
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?:\.[0-9]+)?")
_DIGITS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
# Of more digits in an exponent nothing is computed.
_EXPONENT = r"(?:\{(?P<braced%s>[+-]?[0-9]{1,4})\}|(?P<bare%s>[+-]?[0-9]{1,4}))"
_DECIMAL = re.compile(
    rf"(?P<number>[+-]?{_DIGITS})"
    rf"(?:(?:\\times|\\cdot|\*) ?10\^{_EXPONENT % (1, 1)}|[eE](?P<e>[+-]?[0-9]{{1,4}}))?"
    rf"|(?P<sign>[+-]?)10\^{_EXPONENT % (2, 2)}"
)
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<whole>[0-9]+)(?: |(?=\\)))?"
    r"(?:(?P<over>[0-9]+)/(?P<under>[0-9]+)"
    r"|\\[dtc]?frac\{(?P<tex_over>[+-]?[0-9]+)\}\{(?P<tex_under>[0-9]+)\}"
    r"|\\[dtc]?frac(?P<digit_over>[0-9])(?P<digit_under>[0-9]))"
    rf"(?:(?:\\times|\\cdot|\*) ?10\^{_EXPONENT % ('', '')})?"
)
_WORDS = re.compile(r"[A-Za-z]+(?: [A-Za-z]+)*")
_WORD = re.compile(r"[A-Z]{3,}|[A-Z]?[a-z]{4,}|[A-Z](?=.?[aeiou])[a-z]{2,}")
_ARTICLE = re.compile(r"(?:(?:on|in)\s)?(?:an?\s|the\s)?(?=[a-z]{3})", re.IGNORECASE)
_INTEGER = re.compile(r"[0-9]{1,40}")


def bare(text: str) -> str:
    """Return an answer without dollar signs around it, with ASCII minus signs."""
    text = text.strip().strip("$").strip().replace("\u2212", "-")
    return text[:-1] if text.endswith(".") and text[-2:-1].isdigit() else text


def equal_at_sight(gold: str, answer: str) -> bool | None:
    """Compare as text and as exact numbers; ``None`` if that does not decide it."""
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold) == int(answer)
    gold, answer = _canonical(gold), _canonical(answer)
    if gold == answer or _are_same_words(gold, answer):
        return True
    if ":" in gold:
        for compare in (equal_times, equal_ratios):
            if (equal := compare(gold, answer)) is not None:
                return equal
    gold_value, value = _rational(gold), _rational(answer)
    if gold_value is None or value is None:
        return None
    if gold_value == value or gold_value.denominator == 1:
        return gold_value == value
    # Of two fractions none stands for the other.
    return "." in gold + answer and is_near(gold_value, value)


def _are_same_words(gold: str, answer: str) -> bool:
    r"""Tell whether two answers are alike once one is out of its ``\text{}``, in any case."""
    words = [_out_of_text(one) for one in (gold, answer)]
    if words == [gold, answer]:
        return False
    return len({" ".join(one.casefold().split()) for one in words}) == 1


def _out_of_text(answer: str) -> str:
    text = _ALL_TEXT.fullmatch(answer)
    return text[1] if text else answer


def equal_words(gold: str, answer: str) -> bool | None:
    """Compare bare words, in any case; ``None`` if one is none, or as well a product of letters.

    Articles do not count. A word is capitals, or begins with at most one. Of two letters, or three
    small ones, the order does not count in a product: ``xy`` and ``RC`` are no words.
    """
    words, others = (_WORDS.fullmatch(_out_of_text(one).strip(" .")) for one in (gold, answer))
    if not (words and others and is_word(words[0])):
        return None
    first, second = (_ARTICLE.sub("", one[0]).casefold() for one in (words, others))
    return "".join(first.split()) == "".join(second.split())


def is_word(text: str) -> bool:
    """Tell whether bare letters, with spaces in between, are words and no product."""
    return any(map(_WORD.fullmatch, text.split()))


def is_near(gold: Fraction, value: Fraction) -> bool:
    """Tell whether a number with decimals stands for another."""
    return abs(gold - value) <= min(TOLERANCE, SMALL_TOLERANCE * abs(gold))


def rational(text: str) -> Fraction | None:
    r"""Return the value of a decimal, a fraction or a mixed number, ``None`` of other text."""
    return _rational(_canonical(text))


def _canonical(text: str) -> str:
    """Return an answer without what only lays it out."""
    text = _NEGATIVE_SPACE.sub("", text.replace("{,}", ","))
    text = _SPACING.sub(" ", text).strip()
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "").replace(" ", "")
    return _WIDE_SPACE.sub(" ", _IDLE_SPACE.sub("", text))


def _rational(text: str) -> Fraction | None:
    if match := _DECIMAL.fullmatch(text):
        exponent = (
            match["braced1"] or match["bare1"] or match["e"] or match["braced2"] or match["bare2"]
        )
        value = Fraction(match["number"] or f"{match['sign']}1")
        return value * Fraction(10) ** int(exponent) if exponent else value
    match = _FRACTION.fullmatch(text)
    if not match:
        return None
    divided, by = (
        int(next(filter(None, match.group(side, f"tex_{side}", f"digit_{side}"))))
        for side in ("over", "under")
    )
    if by == 0:
        return None
    value = int(match["whole"] or 0) + Fraction(divided, by)
    value *= Fraction(10) ** int(match["braced"] or match["bare"] or 0)
    return -value if match["sign"] == "-" else value
