"""What has a colon: ``10:30`` is a time and not ``5:15``, but the ratio ``2:4`` is ``1:2``."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from sfpo_envs.graders.plain import in_plain

_TIME = re.compile(r"([01]?[0-9]|2[0-4]) ?: ?([0-5][0-9])(?: ?: ?([0-5][0-9]))?")
_TIME_OF_DAY = re.compile(
    r"(?P<hour>[0-9]{1,2})(?: ?: ?(?P<minute>[0-5][0-9]))?(?: ?: ?(?P<second>[0-5][0-9]))?"
    r"(?: ?(?P<half>[apAP])\.? ?[mM]\.?)?"
)
_RATIO_OF_MORE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?(?: ?: ?[0-9]{1,9}(?:\.[0-9]{1,9})?){2,9}")
_RATIO = re.compile(r"[0-9.]+(?: ?[:/] ?[0-9.]+)?|\\[dtc]?frac[ {0-9}]+")


def equal_times(gold: str, answer: str) -> bool | None:
    """Compare two bare times of day, ``None`` if the gold one is none, or may be a ratio."""
    expected, found = _TIME.fullmatch(gold), _TIME.fullmatch(answer)
    if not expected:
        return None
    if found:
        return [int(part or 0) for part in expected.groups()] == [
            int(part or 0) for part in found.groups()
        ]
    # A ratio is written in its lowest terms.
    is_sure = expected[2][0] == "0" or math.gcd(int(expected[1]), int(expected[2])) > 1
    return False if is_sure and _RATIO.fullmatch(answer) else None


def equal_times_of_day(gold: str, answer: str) -> bool | None:
    """Compare two times of which at least one says a.m. or p.m., ``None`` of other answers.

    An hour with a zero before it, or from 13 on, is of 24; else what one does not say may be
    missing.
    """
    times = [_TIME_OF_DAY.fullmatch(in_plain(one)) for one in (gold, answer)]
    if not all(time and (time["minute"] or time["half"]) for time in times):
        return None
    if not any(time and time["half"] for time in times):
        return None
    (hour, is_of_24, rest), (other, other_of_24, other_rest) = (
        _parts(time) for time in times if time
    )
    is_same = hour == other if is_of_24 and other_of_24 else hour % 12 == other % 12
    return is_same and rest == other_rest


def _parts(time: re.Match[str]) -> tuple[int, bool, tuple[int, int]]:
    """Return the hour, whether it is of 24, and the minutes and seconds."""
    hour, half = int(time["hour"]), time["half"]
    if half:
        hour = hour % 12 + (12 if half in "pP" else 0)
    is_of_24 = bool(half) or hour >= 13 or time["hour"].startswith("0")
    return hour, is_of_24, (int(time["minute"] or 0), int(time["second"] or 0))


def equal_ratios(gold: str, answer: str) -> bool | None:
    """Compare two bare ratios of more than two numbers, ``None`` if one is none."""
    if not (_RATIO_OF_MORE.fullmatch(gold) and _RATIO_OF_MORE.fullmatch(answer)):
        return None
    expected, found = ([Fraction(part) for part in one.split(":")] for one in (gold, answer))
    if len(expected) != len(found) or not (expected[0] and found[0]):
        return expected == found
    share = found[0] / expected[0]
    return all(one * share == other for one, other in zip(expected, found, strict=True))
