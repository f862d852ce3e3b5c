r"""Reading answers that are words: numbers, choices and lists of them.

``\text{twenty-one}`` is 21, ``\text{Option C}`` is ``\text{C}``, ``\text{red, blue and green}`` is
a list of three, and ``\text{no solution}`` the empty set.
"""

from __future__ import annotations

import re
from fractions import Fraction

from sfpo_envs.graders.plain import in_plain
from sfpo_envs.graders.sight import is_word
from sfpo_envs.graders.units import is_known

_MAX_CHARS = 256
_PLAIN = re.compile(r"[A-Za-z(),& -]+")
_JOINT = re.compile(r"\s*,\s*(?:and\s)?\s*|\s+(?:and|&)\s+")
_CHOICE = re.compile(
    r"(?P<kind>(?:option|choice|answer)\s+)?(?P<letter>\((?-i:[A-Z])\)|(?-i:[A-Z])(?P<end>\))?)",
    re.IGNORECASE,
)

_NOTHING = re.compile(
    r"(?:there (?:is|are) )?no (?:(?:real|integer|such) )?solutions?(?: exists?)?"
    r"|(?:the )?empty set",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(r"DNE|(?:(?:it|the limit) )?does not exist", re.IGNORECASE)

_NAMES = "one two three four five six seven eight nine"
_DIGITS = {name: number for number, name in enumerate(_NAMES.split(), start=1)}
_NAMES = """
ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_TEENS = {name: number for number, name in enumerate(_NAMES.split(), start=10)}
_NAMES = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {name: 10 * number for number, name in enumerate(_NAMES.split(), start=2)}
_VALUES = _DIGITS | _TEENS | _TENS | {"zero": 0}
_POWERS = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_NAMES = "third fourth fifth sixth seventh eighth ninth tenth"
_PARTS = {name: part for part, name in enumerate(_NAMES.split(), start=3)}
_PARTS |= {"half": 2, "halve": 2, "quarter": 4}


def _any(names: dict[str, int]) -> str:
    return rf"(?:{'|'.join(names)})(?![a-z])"


_BELOW_100 = rf"(?:{_any(_TENS)}(?: {_any(_DIGITS)})?|{_any(_TEENS)}|{_any(_DIGITS)})"
_BELOW_1000 = rf"(?:{_any(_DIGITS)} hundred(?: (?:and )?{_BELOW_100})?|{_BELOW_100})"
_NUMBER = re.compile(
    r"(?P<sign>(?:minus|negative) )?(?:(?:a )?(?P<half>half)"
    rf"|(?P<number>zero|(?:{_BELOW_1000} {_any(_POWERS)}(?: and)?(?: |$)){{0,3}}{_BELOW_1000}?)"
    rf"(?: (?P<part>{'|'.join(_PARTS)})s?(?![a-z])|(?P<more> and a half))?)"
    r"(?: (?P<unit>[a-z]+))?"
)


def respell_words(text: str) -> str:
    """Return a respelled answer of words as math-verify reads it; all other text as it is."""
    if len(text) > _MAX_CHARS:
        return text
    plain = in_plain(text)
    if not _PLAIN.fullmatch(plain):
        return text
    if number := _as_number(plain):
        return number
    if _NOTHING.fullmatch(plain.strip()):
        return r"\emptyset"
    if _NO_VALUE.fullmatch(plain.strip()):
        return _as_text("does not exist")
    items = _JOINT.split(plain)
    choices = [_CHOICE.fullmatch(item) for item in items]
    letters = [choice["letter"].strip("()") for choice in choices if choice]
    if len(letters) == len(items):
        is_marked = choices[0] and (choices[0]["kind"] or choices[0]["end"])
        return ", ".join(map(_as_text, letters)) if is_marked or letters[1:] else text
    if len(items) > 1 and all(items) and ("\\" in text or all(map(is_word, items))):
        return ", ".join(_as_number(item) or _as_text(item) for item in items)
    return text


def _as_text(words: str) -> str:
    return rf"\text{{{words}}}"


def _as_number(words: str) -> str | None:
    """Return the number, with its unit, that words say; ``None`` if they say none."""
    match = _NUMBER.fullmatch(" ".join(words.lower().replace("-", " ").split()))
    if not match or not (match["half"] or match["number"]):
        return None
    if match["unit"] and not is_known(match["unit"]):
        return None
    value = Fraction(1, 2) if match["half"] else Fraction(_value(match["number"].split()))
    value = value / _PARTS.get(match["part"], 1) + (Fraction(1, 2) if match["more"] else 0)
    over, under = value.numerator, value.denominator
    number = f"{over}" if under == 1 else rf"\frac{{{over}}}{{{under}}}"
    return f"{'-' if match['sign'] else ''}{number} {match['unit'] or ''}".strip()


def _value(words: list[str]) -> int:
    total = part = 0
    for word in words:
        if word == "hundred":
            part *= 100
        elif word in _POWERS:
            total, part = total + part * _POWERS[word], 0
        else:
            part += _VALUES.get(word, 0)  # of "and" nothing
    return total + part
