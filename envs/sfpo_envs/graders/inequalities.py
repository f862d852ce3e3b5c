r"""Reading inequalities in one unknown as the numbers that solve them: ``x < 2`` is (-\infty, 2).

Which of the two an answer is written in is a matter of style, so where one of two answers is an
inequality and the other an interval, both are made intervals. So are real numbers with exceptions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sfpo_envs.graders.glyphs import to_ascii
from sfpo_envs.graders.intervals import in_usual_brackets
from sfpo_envs.graders.plain import in_plain
from sfpo_envs.graders.sight import rational
from sfpo_envs.graders.spelling import TEXT_COMMAND

_MAX_CHARS = 256
_MAX_PIECES = 8
_NO_MATTER = re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[,;:! ]|\\q?quad(?![A-Za-z])|\$")
_RELATION = re.compile(
    r"(?P<le>\\le(?:q|qslant)?(?![A-Za-z])|<=|=<)|(?P<ge>\\ge(?:q|qslant)?(?![A-Za-z])|>=)"
    r"|(?P<ne>\\neq?(?![A-Za-z])|\\not\s*=|!=)|(?P<lt><|\\lt(?![A-Za-z]))|(?P<gt>>|\\gt(?![A-Za-z]))"
)
_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "ne": "ne"}
_UNKNOWN = re.compile(
    r"(?P<name>[A-Za-z]|\\(?:theta|alpha|beta|lambda|phi)(?![A-Za-z])|[a-z]\([a-z]\))"
)
# x \in \mathbb{R} before it, and the braces of \{x : x < 2\}.
_SET = re.compile(
    r"\\\{\s*(?P<name>[a-z])\s*(?:\\in\s*(?:\\mathbb\s*\{?\s*R\s*\}?|\\R)\s*)?"
    r"(?:\\mid(?![A-Za-z])|:|\||\\colon|\\vert)\s*(?P<body>.*)\\\}",
    re.DOTALL,
)
_ALL = re.compile(
    r"(?i)(?:all|any|every)\s+reals?(?:\s+(?:numbers?|values?))?(?:\s+(?:of\s+)?[a-z])?"
    r"(?:,?\s+(?:except|excluding|but|other\s+than|besides)(?:\s+for)?\s+(?P<without>.+))?"
)
_EXCEPTION = re.compile(r"\s*(?:[a-z]\s*(?:=|\\neq?(?![A-Za-z]))\s*)?(?P<value>[^=]+?)\s*")
_REALS = r"(?:\\mathbb\s*\{?\s*R(?![A-Za-z])\s*\}?|\\R(?![A-Za-z]))"
_ANY_REAL = re.compile(rf"(?P<name>[a-z])\s*\\in\s*{_REALS}")
_POINT = re.compile(r"(?P<name>[^=]+)=(?P<value>[^=]+)")
_JOINT = re.compile(
    rf"\s*,?\s*(?:{TEXT_COMMAND}\s*\{{\s*,?\s*(?P<word>or|and)\s*\}}|(?<![A-Za-z\\])(?P<bare>or|and)"
    r"(?![A-Za-z])|\\(?P<sign>lor|vee|land|wedge)(?![A-Za-z])|,)\s*"
)
_OR = ("or", "lor", "vee")
# A bound holds numbers and commands, no other unknown.
_BOUND = re.compile(r"(?:\\[A-Za-z]+|(?<![A-Za-z])e(?![A-Za-z])|[0-9.+\-*/^_{}()\s])+")
_INTERVALS = re.compile(
    rf"(?:(?:{_UNKNOWN.pattern})\s*\\in\s*)?(?P<set>(?:[(\[]|\\\{{).*,.*(?:[)\]]|\\\}})|{_REALS}.*)\.?",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Range:
    """Numbers between two bounds, without some, or one number."""

    low: str | None = None
    high: str | None = None
    brackets: str = "()"
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.is_point():
            return rf"\{{{self.low}\}}"
        low, high = self.low or r"-\infty", self.high or r"\infty"
        text = f"{self.brackets[0]}{low},{high}{self.brackets[1]}"
        return rf"{text}\setminus\{{{','.join(self.without)}\}}" if self.without else text

    def is_point(self) -> bool:
        """Tell whether there is one number."""
        return self.low is not None and self.low == self.high and self.brackets == "[]"

    def is_empty(self) -> bool | None:
        """Tell whether nothing is between the bounds, ``None`` if they are no plain numbers."""
        if self.low is None or self.high is None or self.is_point():
            return False
        low, high = rational(self.low), rational(self.high)
        return None if low is None or high is None else low >= high

    def meet(self, other: _Range) -> _Range | None:
        """Return what is in both, ``None`` if both are bounded on the same side."""
        if (self.low and other.low) or (self.high and other.high):
            return None
        left = self if self.low else other
        right = self if self.high else other
        return _Range(
            self.low or other.low,
            self.high or other.high,
            left.brackets[0] + right.brackets[1],
            self.without + other.without,
        )


def alike(gold: str, answer: str) -> tuple[str, str]:
    """Return two answers as intervals if one is inequalities and the other is either."""
    gold, answer = in_usual_brackets(gold), in_usual_brackets(answer)
    if not any(_may_be_inequality(one) for one in (gold, answer)):
        return gold, answer
    texts = [_NO_MATTER.sub("", to_ascii(one)).strip() for one in (gold, answer)]
    (gold_unknown, gold_set), (unknown, solved) = map(_solutions, texts)
    if gold_set and solved:
        is_same = gold_unknown == unknown or not (gold_unknown and unknown)
        return (gold_set, solved) if is_same else (gold, answer)
    if solved and (intervals := _INTERVALS.fullmatch(texts[0])):
        return intervals["set"], solved
    if gold_set and (intervals := _INTERVALS.fullmatch(texts[1])):
        return gold_set, intervals["set"]
    return gold, answer


def _may_be_inequality(text: str) -> bool:
    if len(text) > _MAX_CHARS:
        return False
    return _RELATION.search(to_ascii(text)) is not None or says_real_numbers(text)


def says_real_numbers(text: str) -> bool:
    """Tell whether an answer is all real numbers, or all except some, in words."""
    return len(text) <= _MAX_CHARS and _reals_except(text) is not None


def _reals_except(text: str) -> _Range | None:
    """Return the numbers that "all real numbers except" some says, ``None`` of other text."""
    match = _ALL.fullmatch(in_plain(text))
    if not match:
        return None
    pieces = re.split(r",|\band\b|\bor\b", match["without"]) if match["without"] else []
    values = [exception["value"] for piece in pieces if (exception := _EXCEPTION.fullmatch(piece))]
    if len(values) < len(pieces) or not _is_bound(*values):
        return None
    return _Range(without=tuple(one for value in values for one in _half("ne", value).without))


def _solutions(text: str) -> tuple[str, str | None]:
    """Return the unknown of inequalities and the intervals of their solutions, or ``None``."""
    if len(text) > _MAX_CHARS:
        return "", None
    if everything := _reals_except(text):
        return "", str(everything)
    if not _RELATION.search(text):
        return "", None
    if braces := _SET.fullmatch(text.rstrip(".")):
        text = braces["body"]
    text = text.strip(" .")
    joints = list(_JOINT.finditer(text))
    if len(joints) >= _MAX_PIECES:
        return "", None
    edges = [0, *(edge for joint in joints for edge in joint.span()), len(text)]
    unknown, found = "", list[_Range]()
    for place, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        name, piece = _read(text[start:end].strip())
        if piece is None and found and found[-1].without and _is_bound(text[start:end]):
            name, piece = unknown, _Range(without=(text[start:end].strip(),))  # x \ne 2, 3
        if piece is None or (place and name != unknown):
            return "", None
        unknown = name
        joint = joints[place - 1].groupdict() if place else {}
        word = joint.get("word") or joint.get("bare") or joint.get("sign")
        merged = found[-1].meet(piece) if found and word not in _OR else None
        if merged is None and (word or piece.without) and word not in _OR and found:
            return "", None
        # A comma is "and" or "or", whichever makes sense.
        if merged is None or (word is None and merged.is_empty()):
            found.append(piece)
        else:
            found[-1] = merged
    if not found or any(piece.is_empty() for piece in found):
        return "", None
    return unknown, r"\cup".join(map(str, found))


def _read(text: str) -> tuple[str, _Range | None]:
    """Return the unknown and the solutions of ``x < 2``, ``1 < x < 2`` or ``x = 2``."""
    if real := _ANY_REAL.fullmatch(text):
        return real["name"], _Range()
    relations = list(_RELATION.finditer(text))
    point = None if relations else _POINT.fullmatch(text)
    if point and _UNKNOWN.fullmatch(point["name"].strip()) and _is_bound(point["value"]):
        value = point["value"].strip()
        return point["name"].strip(), _Range(value, value, "[]")
    if not 1 <= len(relations) <= 2:
        return "", None
    edges = [0, *(edge for relation in relations for edge in relation.span()), len(text)]
    sides = [text[a:b].strip() for a, b in zip(edges[::2], edges[1::2], strict=True)]
    kinds = [relation.lastgroup or "" for relation in relations]
    if len(kinds) == 1 and _UNKNOWN.fullmatch(sides[0]) and _is_bound(sides[1]):
        return sides[0], _half(kinds[0], sides[1])
    if len(kinds) == 1 and _UNKNOWN.fullmatch(sides[1]) and _is_bound(sides[0]):
        return sides[1], _half(_MIRRORED[kinds[0]], sides[0])
    if len(kinds) == 2 and _UNKNOWN.fullmatch(sides[1]) and _is_bound(sides[0], sides[2]):
        if kinds[0][0] != kinds[1][0] or "ne" in kinds:
            return "", None
        first, second = _half(_MIRRORED[kinds[0]], sides[0]), _half(kinds[1], sides[2])
        return sides[1], first.meet(second)
    return "", None


def _half(kind: str, bound: str) -> _Range:
    """Return what is in this relation to a bound."""
    if kind == "ne":
        pair = re.fullmatch(r"\\pm(?![A-Za-z])\s*(.*)", bound, re.DOTALL)
        return _Range(without=(f"-{pair[1]}", pair[1]) if pair else (bound,))
    if "\\infty" in bound:
        return _Range()
    if kind[0] == "l":
        return _Range(high=bound, brackets="(]" if kind == "le" else "()")
    return _Range(low=bound, brackets="[)" if kind == "ge" else "()")


def _is_bound(*texts: str) -> bool:
    return all(_BOUND.fullmatch(text) and not _UNKNOWN.fullmatch(text.strip()) for text in texts)
