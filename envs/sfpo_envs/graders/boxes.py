r"""Finding the boxes of a reply, and what holds no answer."""

from __future__ import annotations

import re

BOX_NAME = r"(?:boxed|fbox|framebox(?:\[[^\[\]\n]{0,20}\]){0,2})(?![a-zA-Z])"
"""What a command that boxes is called, with the width of a frame."""
_BOX = rf"\\{{1,2}}{BOX_NAME}"
# An escaped character is one token, so that the braces of the set \{1, 2\} do not count as groups.
_TOKENS = re.compile(rf"(?P<box>{_BOX})\s{{0,8}}(?P<group>\{{?)|\\.|[{{}}]", re.DOTALL)

_FIRST = re.compile(r"\\(?:boxed|f(?:rame)?box)")

# A box without braces holds numbers, commands, operators and single letters, but no words.
_LETTER = r"(?:[a-zA-Z](?![a-zA-Z]))?"
_NO_WORDS = re.compile(
    rf"(?!{_BOX})(?:"
    r"(?:[0-9]+(?:[.,][0-9]+)*|\.[0-9]+)[a-zA-Z]*"
    rf"|(?:\\[a-zA-Z]+|\\[{{}}$%,;:! ]|[-+*/=^_,(\[)\]|<>%\u00b0\u2212])[ \t]*{_LETTER}"
    r"|[ \t]+|\{)"
)
_IN_GROUP = re.compile(rf"(?!{_BOX})(?:\\.|[^\n\\])")
# "a \boxed answer" boxes nothing.
_ONE_NAME = re.compile(
    r"[a-zA-Z]+(?=[ \t]*(?:\$|\\[)\]]))|[a-zA-Z](?=[ \t]*(?:[-+*/=^_,.;:!?)]|$|\n))"
)
_LOOSE_ENDS = " \t,;:-+*/=^_(<>|\u2212"
_MATH = re.compile(r"[0-9a-zA-Z\\]")

_EDGE = r"(?:[ \t$]|\\[()\[\]]|\\q?quad(?![A-Za-z])|\\[,;: ]){0,8}"
_NAME = r"(?P<name>[A-Za-z])(?:_(?:[0-9]|\{[0-9]\}))?[ \t]{0,4}=[ \t]{0,4}"
# What joins two boxes to one answer: "x = \boxed{1} or x = \boxed{2}". "\boxed{0.5} or
# \boxed{\frac{1}{2}}" without a name are one answer twice.
_JOINT = re.compile(
    rf"{_EDGE}(?:(?:,|(?:,[ \t]?)?(?:\\text[ \t]?\{{)?[ \t]?and[ \t]?\}}?){_EDGE}(?:{_NAME})?"
    rf"|(?:,[ \t]?)?(?:\\text[ \t]?\{{)?[ \t]?or[ \t]?\}}?{_EDGE}{_NAME.replace('name', 'other')})"
)
_LAST_NAME = re.compile(rf"{_NAME}$")
_MAX_JOINT_CHARS = 64

_MAX_BLANK_CHARS = 64
_BLANK = re.compile(
    r"(?:[\s${}~._?*`\u2026\u200b\u2060\ufeff-]|\\{1,2}(?:[,;:!> ()\[\]]"
    r"|(?:q?quad|[lc]?dots|f(?:rame)?box|boxed|text(?:bf|it|rm)?|math(?:bf|it|rm)|displaystyle)(?![a-zA-Z])))*"
)


def is_blank(text: str) -> bool:
    """Return whether there is nothing but space, markup and dots, as in a form to be filled in."""
    return len(text) <= _MAX_BLANK_CHARS and _BLANK.fullmatch(text) is not None


def last_box(text: str) -> str | None:
    r"""Return what the last box of a text holds, without white space around it.

    Boxes are ``\boxed{}``, ``\fbox{}`` and ``\framebox{}``. Of nested ones the last opened counts.
    A box that is never closed counts for nothing, and neither does one that holds nothing.
    Boxes that "and", a comma or the same name join are one list: "x = 1 or x = 2", both boxed. A
    box without braces, as in ``\boxed 42``, ends where words begin, or the formula ends.
    """
    open_groups: list[tuple[int, int]] = []  # where a box begins, -1 of others, and its content
    boxes: list[tuple[int, int, str]] = []  # where those with braces begin and end, what they hold
    best_start, best = -1, None
    first = _FIRST.search(text)  # groups that are opened before it do not matter
    for token in _TOKENS.finditer(text, first.start()) if first else ():
        if token["box"] and not token["group"]:
            start, content = token.end(), _unbraced(text, token.end())
            if not is_blank(content):
                boxes.clear()
        elif token["group"] or token[0] == "{":
            open_groups.append((token.start() if token["box"] else -1, token.end()))
            continue
        elif token[0] == "}" and open_groups:
            begin, start = open_groups.pop()
            if begin < 0 or start < best_start:
                continue
            content = text[start : token.start()]
            if not is_blank(content):
                boxes.append((begin, token.end(), content.strip()))
        else:
            continue
        if start > best_start and not is_blank(content):
            best_start, best = start, content.strip()
    return _joined(text, boxes) if boxes else best


def _joined(text: str, boxes: list[tuple[int, int, str]]) -> str:
    """Return what the last box holds, behind what boxes hold that are joined to it."""
    contents = [boxes[-1][2]]
    for (begin, end, content), (after, _, _) in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        joint = _JOINT.fullmatch(text, end, after) if after - end <= _MAX_JOINT_CHARS else None
        if joint is None:
            break
        name = _LAST_NAME.search(text[max(begin - 16, 0) : begin])
        if (joint["name"] or joint["other"]) != (name["name"] if name else None):
            break
        if content not in contents:
            contents.insert(0, content)
    return ", ".join(contents)


def _unbraced(text: str, start: int) -> str:
    """Return what a box without braces holds; nothing if words follow it."""
    start += text.startswith("$", start)
    depth, end = 0, start
    if name := _ONE_NAME.match(text, start):
        end = name.end()
    while piece := (_IN_GROUP if depth else _NO_WORDS).match(text, end):
        depth += (piece[0] == "{") - (piece[0] == "}")
        end = piece.end()
    content = text[start:end].rstrip(_LOOSE_ENDS)
    return content if depth == 0 and _MATH.search(content) else ""
