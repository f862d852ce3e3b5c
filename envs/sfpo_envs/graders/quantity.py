r"""What an answer says besides its value: percent, the base of its digits, its unit.

What is missing on one side is no difference, as problems often name it themselves; what is there on
both sides has to be the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from sfpo_envs.graders.items import are_alternatives, split_items, with_both_signs
from sfpo_envs.graders.sight import rational
from sfpo_envs.graders.spelling import TEXT_COMMAND, respell
from sfpo_envs.graders.units import Unit, is_numeric, split_unit
from sfpo_envs.graders.vectors import as_tuple
from sfpo_envs.graders.words import respell_words

_DOLLAR = re.compile(r"(?<![A-Za-z])US\s?\\?\$|(?<!\\)\$")
_LEADING = re.compile(
    r"^(?:\\(?:approx|therefore|implies|[rR]ightarrow)(?![A-Za-z])|~|="
    r"|\\q?quad(?![A-Za-z])|\\[,;:! ]|\s)+"
)
_TRAILING = re.compile(
    r"(?:[.,;:\s\u3002]|\\[,;:! ]|\\(?:q?quad|checkmark|blacksquare|square|Box)(?![A-Za-z])"
    r"|\\+(?=\s*$))+$"
)
_PERCENT = re.compile(
    r"(?i)(?:\s|~|\\[,;:! ])*"
    rf"(?:\\?%|(?:{TEXT_COMMAND}\s*\{{\s*)?(?:\\?%|(?<![a-z])(?:percent(?:age)?|per\s?cent|pct\.?))\s*\}}?)$"
)
_NAMES_OF_BASES = """
two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
"""
_BASES = {name: base for base, name in enumerate(_NAMES_OF_BASES.split(), start=2)}
_BASE = rf"[0-9]{{1,2}}|{'|'.join(_BASES)}"
_OPEN_TEXT = rf"(?:{TEXT_COMMAND}\s*\{{)?\s*"
_NUMERAL = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:\\left)?\(?\s*(?P<text>{TEXT_COMMAND}\s*\{{)?\s*"
    r"(?P<digits>[0-9A-Za-z][0-9A-Za-z,.\s]*?)\s*\}?\s*(?:\\right)?\)?\s*"
    rf"(?:_\s*\{{?\s*{_OPEN_TEXT}(?:base[\s~]*\}}?\s*)?(?P<base>{_BASE})"
    rf"|(?:\\[,;:! ]|~|\s)*{_OPEN_TEXT}\(?\s*(?:in\s+)?base[\s~-]*\}}?\s*(?P<named>{_BASE})\s*\)?)"
    r"[\s}]*"
)
_SPACE = r"(?:\s|~|\\[,;:! ]|\\q?quad(?![A-Za-z]))"
_MODULUS = re.compile(
    rf"{_SPACE}*(?:\(\s*)?(?:{TEXT_COMMAND}\s*\{{\s*\(?\s*|\\)?(?<![A-Za-z])[pb]?mod(?:ulo)?"
    rf"(?![A-Za-z])(?:[}}{{]|{_SPACE})*(?P<modulus>[0-9]+|[a-z])[\s}})]*$"
)
_CONGRUENT = re.compile(r"^[^,]*\\equiv(?![A-Za-z])\s*")
# The letter of a choice before its value: \textbf{(C)}\ 5.
_CHOICE = re.compile(
    rf"^(?:{TEXT_COMMAND}\s*\{{\s*(?:\([A-E]\)|[A-E][.):])\s*\}}{_SPACE}*|[A-E][.)]{_SPACE}+"
    rf"|{TEXT_COMMAND}\s*\{{\s*[A-E]\s*\}}{_SPACE}+|\([A-E]\){_SPACE}+)"
    r"(?=[-+]?(?:[0-9]|\.[0-9]|\\(?:[dtc]?frac|sqrt|pi|\$)(?![A-Za-z])))"
)
# What says of a number that another is meant.
_QUALIFIER = re.compile(
    r"(?<![a-z])(?:or (?:more|less|fewer|greater)|at (?:least|most)|(?:more|less|fewer) than"
    r"|hal(?:f|ves)|thirds?|dozens?|hundreds?|thousands?)(?![a-z])"
)
_GOES_ON = re.compile(r",\s*\\ldots\s*$")
_TUPLE = re.compile(r"(?:\\left\s*)?\(.*,.*(?:\\right\s*)?\)", re.DOTALL)
_SET = re.compile(r"(?:\\left\s*)?\\\{.*(?:\\right\s*)?\\\}", re.DOTALL)
_DECIMAL_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+)")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
_EQUALS = re.compile(r"(?<![<>!\\])=")
_DEGREE, _RADIAN = (Unit(frozenset({(name, 1)}), frozenset()) for name in ("degree", "rad"))
_APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])")


@dataclass(frozen=True)
class Quantity:
    """An answer taken apart.

    Attributes:
        text: All of it, as math-verify reads it.
        value: What is left without the others.
        is_percent: Whether it is in percent.
        base: Of its digits, ``None`` if it does not say.
        unit: What it is measured in, ``None`` if it does not say.
        is_unit_sure: Whether the unit can be nothing else, a variable for instance.
        modulus: Of the congruence it solves, ``None`` if it does not say.
        is_any_of: Whether it says that its items are alternatives, so that they are no tuple.
    """

    text: str
    value: str
    is_percent: bool = False
    base: int | None = None
    unit: Unit | None = None
    is_unit_sure: bool = True
    modulus: str | None = None
    is_any_of: bool = False


@lru_cache(4096)
def read_quantity(answer: str) -> Quantity:
    """Take an answer apart; dollar signs around formulas do not matter."""
    text = respell(_DOLLAR.sub(lambda sign: r"\$" if len(sign[0]) > 1 else "", answer))
    text = _TRAILING.sub("", _LEADING.sub("", text)) or text
    text = _CHOICE.sub("", respell_words(text))
    if (modulus := _MODULUS.search(text)) and modulus.start():
        solution = read_quantity(_CONGRUENT.sub("", text[: modulus.start()]))
        return replace(solution, modulus=modulus["modulus"])
    if not _LETTER.search(text):
        # Of numbers alone the last counts, "2 + 3 = 5", and the exact one, "2/3 \approx 0.67".
        text = _APPROXIMATELY.split(_EQUALS.split(text)[-1])[0]
    items = [signed for item in split_items(text) for signed in with_both_signs(item)]
    text = ",".join(items)
    parts = [_read_item(item) for item in items]
    is_any_of = are_alternatives(answer)
    if len(parts) == 1:
        return replace(parts[0], is_any_of=is_any_of)
    said = {(part.is_percent, part.base, part.unit) for part in parts}
    if len(said) > 1 or not all(part.is_unit_sure for part in parts):
        # "2 and 3 cm" has a unit; what else differs from item to item stays with the items.
        unit = parts[-1].unit
        if unit and parts[-1].is_unit_sure and said == {(False, None, None), (False, None, unit)}:
            return Quantity(text, ",".join([*items[:-1], parts[-1].value]), unit=unit)
        return Quantity(text, text, is_any_of=is_any_of)
    value = ",".join(part.value for part in parts)
    return replace(parts[0], text=text, value=value, is_any_of=is_any_of)


def comparisons(gold: Quantity, answer: Quantity) -> list[tuple[str, str]]:
    """Return what has to be compared to tell whether an answer is right.

    Returns:
        Pairs of a gold value and another, one of which has to be equal; none if none can be.
    """
    if gold.modulus and answer.modulus and gold.modulus != answer.modulus:
        return []
    if set(_QUALIFIER.findall(answer.text)) - set(_QUALIFIER.findall(gold.text)):
        return []
    if (_SET.fullmatch(answer.value) or answer.is_any_of) and _is_tuple(gold.value):
        return []
    if _GOES_ON.search(answer.text) and not _GOES_ON.search(gold.text):
        return []
    tuples = [
        (as_tuple(vector) if _is_tuple(other) else None) or vector
        for vector, other in ((gold.value, answer.value), (answer.value, gold.value))
    ]
    if tuples != [gold.value, answer.value]:
        return [(tuples[0], tuples[1])]
    if gold.base is not None or answer.base is not None:
        is_same = None in (gold.base, answer.base) or gold.base == answer.base
        return [(_digits(gold), _digits(answer))] if is_same else []
    if (gold.is_percent and answer.unit) or (answer.is_percent and gold.unit):
        return []
    for degrees, other in ((gold, answer), (answer, gold)):
        if radians := _in_radians(degrees, other):
            return [(radians, other.value)]
    pairs = [(gold.value, answer.value)]
    if gold.unit and answer.unit:
        if gold.unit.differs(answer.unit):
            return [] if gold.is_unit_sure and answer.is_unit_sure else [(gold.text, answer.text)]
    elif not gold.is_unit_sure or not (answer.is_unit_sure or is_numeric(gold.value)):
        pairs = [(gold.text, answer.text)]  # what may be a unit is a variable
    if gold.is_percent and not answer.is_percent:
        pairs.append((_hundredth(gold.value), answer.value))
    if answer.is_percent and not gold.is_percent:
        pairs.append((gold.value, _hundredth(answer.value)))
    # 2,74 is two numbers, unless one is asked for that is not whole.
    comma = _DECIMAL_COMMA.fullmatch(answer.value)
    if comma and "." in gold.value and rational(gold.value) is not None:
        pairs.append((gold.value, f"{comma[1]}.{comma[2]}"))
    return pairs


def _in_radians(angle: Quantity, other: Quantity) -> str | None:
    """Return an angle in degrees as what another is in that has pi; ``None`` of all else."""
    number = angle.value.rpartition("=")[2]
    is_angle = angle.unit == _DEGREE and rational(number) is not None
    if not is_angle or "\\pi" not in other.value or other.unit not in (None, _RADIAN):
        return None
    return rf"\frac{{{number}}}{{180}} \pi"


def _is_tuple(value: str) -> bool:
    return _TUPLE.fullmatch(value) is not None and len(split_items(value)) == 1


def _read_item(text: str) -> Quantity:
    if percent := _PERCENT.search(text):
        head = text[: percent.start()]
        if head and not head.endswith("\\"):
            return Quantity(text, head, is_percent=True)
    if numeral := _as_numeral(text.strip()):
        return numeral
    measured = split_unit(text)
    return Quantity(text, measured.value, unit=measured.unit, is_unit_sure=measured.is_sure)


def _as_numeral(text: str) -> Quantity | None:
    """Return digits of which the base is said, ``None`` of other text."""
    match = _NUMERAL.fullmatch(text)
    if not match:
        return None
    name = match["base"] or match["named"]
    base = _BASES[name] if name in _BASES else int(name)
    digits = re.sub(r"[,\s]", "", match["digits"]).upper()
    letters = [char for char in digits if char.isalpha()]
    if any(int(letter, 36) >= max(base, 2) for letter in letters):
        return None
    if len(letters) == len(digits) and not match["text"]:
        return None  # a name
    value = match["sign"].replace("+", "") + (digits.lstrip("0") or "0")
    return Quantity(text, value, base=base)


def _digits(number: Quantity) -> str:
    """Return the digits of a number, as a word if some are letters."""
    digits = re.sub(rf"{TEXT_COMMAND}\s*\{{|[\s,}}]", "", number.value).upper()
    return rf"\text{{{digits}}}" if digits.isalnum() and not digits.isdigit() else number.value


def _hundredth(value: str) -> str:
    return (
        rf"{value} \times 10^{{-2}}" if rational(value) is not None else rf"\frac{{{value}}}{{100}}"
    )
