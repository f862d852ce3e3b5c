r"""Answers with a parameter that runs through the integers: ``2k\pi, k \in \mathbb{Z}``.

What the parameter is called does not matter, and for the integers it need not be said.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sfpo_envs.graders.spelling import TEXT_COMMAND

_LETTER = r"(?P<letter>[a-z])"
_SET = (
    r"(?:\\(?:mathbb|mathbf|Bbb|bf)\s*\{?\s*)?(?P<set>[ZN])(?![A-Za-z])\s*\}?"
    r"(?:\s*\}?\s*[\^_]\s*(?P<sign>\{\s*[^{}\s]+\s*\}|[+*0]))?"
)
_ANY = r"(?:an?\s+|any\s+|some\s+|all\s+|every\s+|each\s+|arbitrary\s+)*"
_DECLARED = re.compile(
    r"[\s,;:~|$(]*(?:\\q?quad[\s,;:(]*|\\[,;:! ][\s(]*|\\mid\s*)*"
    r"(?:(?:where|with|for|and|when)\s+)?(?:\\forall\s*)?(?:"
    rf"{_ANY}{_LETTER}\s*\\?(?:in)(?![A-Za-z])\s*{_SET}"
    rf"|{_ANY}integers?\s+(?P<named>[a-z])(?![A-Za-z])"
    rf"|(?P<called>[a-z])\s+(?:is\s+|are\s+|being\s+|can\s+be\s+)?{_ANY}integers?"
    r"|(?P<listed>[a-z])\s*=\s*0\s*,\s*\\pm\s*1\s*(?:,\s*\\pm\s*[23]\s*)*,\s*\\[lc]?dots"
    r")[\s.,$)}\\]*$"
)
_TEXT = re.compile(rf"{TEXT_COMMAND}\s*\{{([^{{}}]*)\}}")
_GLYPHS = str.maketrans({"\u2124": r"\mathbb{Z}", "\u2115": r"\mathbb{N}", "\u2208": r"\in "})
_OPENING = re.compile(r"^\s*\\?\{\s*")
_RELATION = re.compile(r"[<>\u2264\u2265]|\\(?:[lg]e|[lg]eq|[lg]t|ne|neq|in|mid|equiv)(?![A-Za-z])")
_NAME = re.compile(r"\\[A-Za-z]+|[A-Za-z]+")
_OF_INTEGERS = "jklmn"
_MAX_CHARS = 400


class _Family(NamedTuple):
    """An answer, the letter of its parameter, and what that runs through."""

    text: str
    letter: str
    domain: str


def same_parameter(gold: str, answer: str) -> tuple[str, str]:
    r"""Return two answers without their declarations of a parameter, called alike in both.

    Both are as they are if neither declares one, or if they differ in what it runs through. One
    that declares nothing may call it any of j, k, l, m and n.

    Args:
        gold: The right answer.
        answer: The one to judge.
    """
    of_gold, of_answer = _read(gold), _read(answer)
    if of_gold is None and of_answer is None:
        return gold, answer
    if of_gold is None or of_answer is None:
        declared = of_gold or of_answer
        assert declared is not None
        if declared.domain != "Z":
            return gold, answer
        other = answer if of_answer is None else gold
        undeclared = _undeclared(other, declared)
        if undeclared is None:
            return gold, answer
        return (declared.text, undeclared) if of_answer is None else (undeclared, declared.text)
    if of_gold.domain != of_answer.domain:
        return gold, answer
    return of_gold.text, _renamed(of_answer.text, of_answer.letter, of_gold.letter)


def _read(text: str) -> _Family | None:
    if len(text) > _MAX_CHARS:
        return None
    plain = _TEXT.sub(r" \1 ", text.translate(_GLYPHS))
    found = _DECLARED.search(plain)
    if found is None:
        return None
    letter = found["letter"] or found["named"] or found["called"] or found["listed"]
    domain = (found["set"] or "Z") + (found["sign"] or "").strip("{} ")
    value = plain[: found.start()]
    if value.count("{") > value.count("}"):  # the declaration stands in a set
        value = _OPENING.sub("", value)
    left, equals, right = value.rpartition("=")
    if _RELATION.search(value) or letter not in _NAME.findall(right):
        return None  # what is said of the unknown itself
    if equals and letter in _NAME.findall(left):
        return None
    return _Family(value.strip(" ,;:$~"), letter, domain)


def _undeclared(text: str, declared: _Family) -> str | None:
    """Return an answer in terms of another one's parameter, ``None`` if it has none like it."""
    if len(text) > _MAX_CHARS or _RELATION.search(text):
        return None
    names = set(_NAME.findall(text))
    if declared.letter in names:
        return text
    own = names & set(_OF_INTEGERS) - set(_NAME.findall(declared.text))
    return _renamed(text, own.pop(), declared.letter) if len(own) == 1 else None


def _renamed(text: str, old: str, new: str) -> str:
    if old == new or new in _NAME.findall(text):
        return text
    return _NAME.sub(lambda name: new if name[0] == old else name[0], text)
