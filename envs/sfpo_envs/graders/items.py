r"""Splitting a list, of which an item with ``\pm`` is two: ``\frac{1 \pm \sqrt{5}}{2}``."""

from __future__ import annotations

import re
from itertools import product

_MAX_SIGNS = 3  # of one item; each doubles it
_SIGN = re.compile(r"\s*\\(pm|mp)(?![A-Za-z])\s*")
_SET = re.compile(r"(?P<open>(?:\\left)?\\\{)(?P<items>.*)(?P<close>(?:\\right)?\\\})", re.DOTALL)
_BRACKETS = {**dict.fromkeys("([{", 1), **dict.fromkeys(")]}", -1)}
_OR = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])")
_NAME = re.compile(r"(?<![A-Za-z\\])([A-Za-z](?:_\{?[0-9A-Za-z]+\}?)?)\s*=")
_OPENING = ("", "(", "[", "{", "=", ",", "&")


def split_items(text: str) -> list[str]:
    """Split a list at the commas that no bracket holds."""
    items, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += _BRACKETS.get(char, 0)
        if char == "," and depth == 0 and text[place - 1 : place] != "\\":
            items.append(text[start:place])
            start = place + 1
    return [*items, text[start:]]


def are_alternatives(text: str) -> bool:
    """Tell whether a list, not respelled, says that one thing is any of it: "3 or 4"."""
    names = _NAME.findall(text)
    return len(set(names)) < len(names) or _OR.search(text) is not None


def with_both_signs(item: str) -> list[str]:
    r"""Return the items that one with ``\pm`` or ``\mp`` stands for, the item itself without.

    Where both occur the signs are tied to each other, else each is free.
    """
    signs = [sign[1] for sign in _SIGN.finditer(item)]
    if not 0 < len(signs) <= _MAX_SIGNS:
        return [item]
    if braces := _SET.fullmatch(item.strip()):
        inside = [one for part in split_items(braces["items"]) for one in with_both_signs(part)]
        return [f"{braces['open']}{','.join(inside)}{braces['close']}"]
    if "mp" in signs:
        choices = [tuple(first if sign == "pm" else -first for sign in signs) for first in (1, -1)]
    else:
        choices = list(product((1, -1), repeat=len(signs)))
    return [_with_signs(item, choice) for choice in choices]


def _with_signs(item: str, choice: tuple[int, ...]) -> str:
    remaining = iter(choice)

    def sign(match: re.Match[str]) -> str:
        if next(remaining) < 0:
            return "-"
        return "" if item[: match.start()][-1:] in _OPENING else "+"

    return _SIGN.sub(sign, item)
