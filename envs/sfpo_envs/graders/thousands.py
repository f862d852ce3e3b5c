r"""Thousands that are told apart by spaces: ``10 000`` and ``10\,000`` are one number."""

from __future__ import annotations

import re

_THIN = r"[ \u00a0\u2009\u202f~]"
_SPACE = rf"(?:{_THIN}|\\[,!;: ])"
_SPACED = re.compile(
    # In a row of numbers each is its own.
    rf"(?<![\w.,/^_])(?<![0-9]{_THIN})(?<![0-9]\\[,!;: ])(?<![0-9], )[1-9][0-9]{{0,2}}"
    rf"(?:{_SPACE}[0-9]{{3}}){{1,6}}(?![\w/^]|\s[0-9]|,\s?[0-9]|\.[0-9]+\.|-[A-Za-z])"
)
_SEPARATOR = re.compile(_SPACE)


def joined(text: str) -> str:
    """Return a text in which no space parts the digits of a number."""
    return _SPACED.sub(lambda number: _SEPARATOR.sub("", number[0]), text)
