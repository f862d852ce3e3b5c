r"""Telling the exponent of a unit from a number: in ``18 cm^2`` there is one number."""

from __future__ import annotations

import re

from sfpo_envs.graders.units import is_known

_LONGEST = 80  # characters that are looked at
# Behind a number: nothing, or other units.
_BEHIND_A_NUMBER = r"[0-9)]\s*(?:[A-Za-z]{1,3}(?:\^\{?-?[0-9]\}?)?[\s*\u00b7/]+){0,3}"
_RAISED = re.compile(
    r"(?:\\(?:text|mathrm|textrm|rm|[mh]box)\s*\{[^{}]*\}"
    rf"|(?P<before>{_BEHIND_A_NUMBER}|/\s*|\\[,;:! ]\s*|~\s*|(?<![A-Za-z\\]))"
    r"(?P<word>[A-Za-z]{1,8}))"
    r"\s*\}?\s*\$?\s*(?:\^|\*\*)\s?\{?\s?[+-]?\s?$"
)


def is_exponent_of_unit(text: str, start: int) -> bool:
    """Return whether the number that begins at ``start`` is an exponent, and its base a unit.

    A letter alone is a unit behind a number or a slash, as in ``9.8 m/s^2``; else it is a variable.
    """
    if not any(sign in text[max(start - 6, 0) : start] for sign in ("^", "**")):  # for speed
        return False
    raised = _RAISED.search(text[max(start - _LONGEST, 0) : start])
    if raised is None:
        return False
    if raised["word"] is None:
        return True
    return is_known(raised["word"]) and (len(raised["word"]) > 1 or bool(raised["before"]))
