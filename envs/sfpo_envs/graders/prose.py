"""Taking an answer out of what is said around it: ``8 (eight)``, ``8 because 5 + 3 = 8``."""

from __future__ import annotations

import re

from sfpo_envs.graders.units import is_known

_MAX_CHARS = 512
_PICTURES = re.compile("[\u2600-\u27bf\ufe0f\U0001f300-\U0001faff]")
_SPECIAL = re.compile(r"(?:<\|[^<>|]{1,30}\|>|</?(?:s|answer|think)>)\s*$")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*(?=\s+\w)")
# Only behind a number or a formula something is left out: words may be an answer themselves.
_VALUE = re.compile(
    r"\$[^$\n]+\$|[-+$\u2212]{0,2}(?:[0-9.(\[]|\\(?![a-z]*text|math[a-z]+\{[A-Za-z]{2}))"
)
_HEDGE = r"(?:or|and|maybe|perhaps|possibly|mod|modulo|base|in base|if|unless|except)(?![a-z])"
_AFTER = re.compile(
    # another sentence
    r"[.!?]\s+(?=[A-Z][a-z']*\s+(?!=)[A-Za-z])"
    # a reason
    rf"|,?\s+(?:because|since|given that|which (?:is|was|means)|where)(?![a-z])"
    # a remark in parentheses or behind a dash
    rf"|\s*\((?!{_HEDGE})(?=[^()\n]*[A-Za-z]{{3}})[^()\n]+\)[.\s]*$"
    rf"|\s+[\u2013\u2014-]\s+(?!{_HEDGE})(?=[a-z]{{2,}}\s+[a-z])"
)
_NUMBER = re.compile(
    r"(?<![\w.,/^_(+*=-])[-\u2212]?\\?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"(?:\s[0-9]+/[0-9]+|/[0-9]+)?(?:\s?\\?%)?(?![\w/^*+=(]|\s[-+*/=^<>])"
)
_PLAIN = re.compile(r"[^\\^_={}<>|\[\]+*]*")
_WORD = re.compile(r"[A-Za-z']+")
# With these a number is not what a sentence says, or not all of it.
_WORDS = """
not no nor never neither none or than least most minus negative plus times twice half third quarter
square squared cube cubed root power factorial percent percentage hundred thousand million billion
dozen dozens to between over base mod modulo if unless wrong incorrect false except without divided
multiplied fraction ratio odd even double triple under above below more less fewer cannot isn't
doesn't don't wasn't aren't th st nd rd one two three four five six seven eight nine ten
"""
_CHANGES = frozenset(_WORDS.split())
_UNIT = re.compile(r"\s?([A-Za-z]{1,20})(?:(?:[/^]|\sper\s)[A-Za-z0-9]{1,10}){0,3}")


def without_marks(text: str) -> str:
    """Return a text without pictures, marks of its end, and emphasis of its first words."""
    text = _SPECIAL.sub("", _PICTURES.sub("", text)).lstrip()
    bold = _BOLD.match(text)
    return bold[1] + text[bold.end() :] if bold else text


def without_remarks(answer: str) -> str:
    """Return a value without what is said about it; words that lead to it are gone already."""
    if len(answer) > _MAX_CHARS or not _VALUE.match(answer):
        return answer
    after = _AFTER.search(answer)
    return answer[: after.start()] if after else answer


def only_number(sentence: str) -> str | None:
    """Return the number of a sentence that holds only one, with its unit; ``None`` of others."""
    if len(sentence) > _MAX_CHARS:
        return None
    words = [word.lower() for word in _WORD.findall(sentence)]
    if len(words) < 3 or _CHANGES.intersection(words) or not _PLAIN.fullmatch(sentence):
        return None
    numbers = list(_NUMBER.finditer(sentence))
    if len(numbers) != 1 or len(re.findall(r"[0-9]+(?:[.,/][0-9]+)*", sentence)) != 1:
        return None
    unit = _UNIT.match(sentence, numbers[0].end())
    return numbers[0][0] + (unit[0] if unit and is_known(unit[1]) else "")
