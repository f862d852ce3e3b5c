"""Amounts in more than one unit: ``1 hour 20 minutes`` is 80 minutes."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from sfpo_envs.graders.plain import in_plain
from sfpo_envs.graders.sight import is_near, rational
from sfpo_envs.graders.spelling import respell
from sfpo_envs.graders.units import powers_of, split_unit

_MAX_CHARS = 128
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([A-Za-z]{1,12})\.?"
_AMOUNT = re.compile(rf"{_PART}(?: ?(?:,|,? ?and)? ?{_PART}){{1,3}}")
_PARTS = re.compile(_PART)
_CLOCK = re.compile(r"([0-9]{1,4}) ?: ?([0-5][0-9])")

# base units, and how many of a smaller one they are
_SIZES = {
    "minute": (60, "s"), "hour": (3600, "s"), "day": (86400, "s"), "week": (604800, "s"),
    "foot": (12, "inch"), "yard": (36, "inch"), "mile": (63360, "inch"),
    "pound": (16, "ounce"), "dollar": (100, "cent"), "year": (12, "month"),
}  # fmt: skip


class _Size(NamedTuple):
    """How much a unit is of the smallest of its kind."""

    kind: str
    factor: Fraction


class _Amount(NamedTuple):
    """An amount in the smallest unit of its kind, and the units that it is said in."""

    total: Fraction
    units: list[_Size]


def equal_amounts(gold: str, answer: str) -> bool | None:
    """Compare two amounts, ``None`` if neither has more than one unit, or one is no amount.

    A number without a unit is one in any unit of the other.
    """
    expected, found = (_read(one) for one in (gold, answer))
    if expected and found:
        return expected.units[0].kind == found.units[0].kind and expected.total == found.total
    if expected:
        return _is_as_much(expected, answer)
    return _is_as_much(found, gold) if found else None


def _is_as_much(amount: _Amount, other: str) -> bool | None:
    """Compare an amount in more than one unit with another answer."""
    clock = _CLOCK.fullmatch(in_plain(other))
    if clock and len(amount.units) == 2 and amount.units[0].factor == 60 * amount.units[1].factor:
        total = (60 * int(clock[1]) + int(clock[2])) * amount.units[1].factor
        return total == amount.total
    measured = split_unit(respell(other))
    value = rational(measured.value)
    if value is None:
        return None
    if measured.unit is None:
        return any(is_near(amount.total, value * unit.factor) for unit in amount.units)
    size = _size(dict(measured.unit.powers))
    if size is None:
        return False
    return size.kind == amount.units[0].kind and is_near(amount.total, value * size.factor)


def _read(text: str) -> _Amount | None:
    """Return what an answer says in more than one unit, the largest first; ``None`` of others."""
    if len(text) > _MAX_CHARS or not (plain := _AMOUNT.fullmatch(in_plain(text))):
        return None
    total, units = Fraction(0), list[_Size]()
    for number, name in _PARTS.findall(plain[0]):
        size = _size(powers_of(name) or {})
        if size is None or (units and not _is_part(size, units[-1])):
            return None
        units.append(size)
        total += Fraction(number) * size.factor
    return _Amount(total, units)


def _is_part(size: _Size, of: _Size) -> bool:
    return size.kind == of.kind and size.factor < of.factor


def _size(powers: dict[str, int]) -> _Size | None:
    """Return the size of a unit that is no power or product of others."""
    names = [name for name in powers if name != "ten"]
    if len(names) != 1 or powers[names[0]] != 1:
        return None
    factor, kind = _SIZES.get(names[0], (1, names[0]))
    return _Size(kind, factor * Fraction(10) ** powers.get("ten", 0))
