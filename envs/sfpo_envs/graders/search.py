r"""Finding the answer in a whole reply, before math-verify would.

It looks where math-verify looks: at a box, at what follows "answer", at the last formula or number.
What it finds is then read as the content of a box is.
"""

from __future__ import annotations

import re

from sfpo_envs.graders.boxes import BOX_NAME
from sfpo_envs.graders.extraction import last_boxed
from sfpo_envs.graders.headings import is_heading
from sfpo_envs.graders.inequalities import says_real_numbers
from sfpo_envs.graders.languages import ANSWER_IS
from sfpo_envs.graders.sight import rational
from sfpo_envs.graders.spelling import GROUP, TEXT_COMMAND
from sfpo_envs.graders.units import is_numeric, split_unit

_BOX = re.compile(rf"\\f?{BOX_NAME}")
_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>(?:[^$\\]|\\.)+?)\$\$"
    r"|(?<![\\0-9])\$(?P<inline>(?:[^$\\\n]|\\.)+?)\$"
    r"|\\\[(?P<bracket>(?:[^\\]|\\(?!\]))+?)\\\]"
    r"|\\\((?P<parenthesis>(?:[^\\\n]|\\(?!\)))+?)\\\)",
    re.DOTALL,
)
_RAISED = "\u207a\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079"
_VULGAR = "[\u00bc-\u00be\u2150-\u215e]"
_DIGITS = (
    r"(?:(?:[0-9]{1,3}(?:(?:\\,|\{,\}|[ \u00a0\u202f])[0-9]{3})+(?![0-9])|[0-9]+(?:,[0-9]+)*)"
    r"(?:\.[0-9]+)?"
    r"|\.[0-9]+)"
)
_POWER_OF_TEN = (
    r"\s?(?:\\times|\\cdot|\u00d7|\u00b7|\u22c5|[x*])\s?10\s?"
    rf"(?:\^\s?\{{?[-+\u2212]?[0-9]+\}}?|\*\*[-+]?[0-9]+|[{_RAISED}]+)"
)
_NUMBER = re.compile(
    r"(?<![\w.,\\^_{])(?:(?<![)\]}])[-+\u2212\u2013])?(?:[$\u20ac\u00a3]|\\\$)?"
    rf"(?:{_DIGITS}(?:[eE][-+\u2212]?[0-9]+(?![A-Za-z])|{_POWER_OF_TEN}|\s[0-9]+/[0-9]+|/[0-9]+|{_VULGAR})?"
    rf"|\\[dtc]?frac\s*\{{[-+]?[0-9.]+\}}\s*\{{[0-9.]+\}}|{_VULGAR})"
    r"(?:\s?(?:\\?%|percent(?![a-z])|\u00b0))?"
)
_UNIT_AFTER = re.compile(
    r"\s?(?:(?:square|cubic|sq\.?)\s)?[A-Za-z\u00b5\u03bc\u03a9\u20ac]+(?:[/^]?[A-Za-z\u00b2\u00b3]+[0-9]?|\^[0-9])*"
    rf"|\s?(?:\\[,;: ])?{TEXT_COMMAND}\s*{GROUP}(?:\^\{{?-?[0-9]\}}?)?"
)
_OPERATOR_AFTER = re.compile(r"\s?[-+*/^\u00d7\u00f7=]\s?[0-9(]|[\^_(]")
_OPERATOR_BEFORE = re.compile(r"[0-9)]\s?[-+*/^\u00d7\u00f7]\s?$")
_FUNCTION = r"(?!(?:sin|cos|tan|cot|sec|csc|ln|log|exp|sqrt|arc|pi)[a-z]*\b)"
_VALUE = r"\(?[-+$.\u2212]?(?:[0-9]|\\[dtc]?frac|\\sqrt|\\pi)"
_SENTENCE = re.compile(
    # three words in a row
    rf"(?<![\\A-Za-z']){_FUNCTION}[A-Za-z']{{2,}}[\s,:]+[A-Za-z']+[\s,:]+[A-Za-z']{{2}}"
    # words that lead to a number
    rf"|^[^\w\\]*{_FUNCTION}[A-Za-z']{{2,}}(?:[\s,:]+{_FUNCTION}[A-Za-z']+)+[:\s]+{_VALUE}"
    rf"|^[^\w\\]*{_FUNCTION}[A-Za-z']{{2,}}(?:\s?:\s*{_VALUE}|\s+\(?[-+$.\u2212]?[0-9])"
)
# What leads to an answer that is all of the rest: "It is", "Answer:".
_LEAD = re.compile(
    r"^(?:[A-Za-z']+[\s,]+){0,8}(?:is|are|equals|be|get|have|obtain)\s*:?\s+(?!\w)"
    rf"|^[A-Za-z' ]{{2,40}}:\s+|^[^\n]{{0,40}}?(?i:{ANSWER_IS})[\s*]*"
)
# After a box it makes that one of a step on the way.
_FINALLY = re.compile(r"(?i)final answer is:?\s*(?:\$|\\[(\[]|[-+]?[0-9])")
# The last line of a solution of GSM8K.
_HASHES = re.compile(r"\n[ \t]*####[ \t]*([^\s#][^\n]*)$")
_DOLLAR = re.compile(r"(?<!\\)\$")
_TEXT = re.compile(rf"{TEXT_COMMAND}\s*{GROUP}")
_EMPHASIS = re.compile(r"(?:^|(?<=\s))\*\*|\*\*(?=[\s.,]|$)|^\s*(?:#+|>)\s")
_ANCHORS = (
    re.compile(r"(?i)final answer.{0,100}?\s+is:?"),
    re.compile(rf"(?i)answer:|{ANSWER_IS}"),
    re.compile(r"(?i)answer"),
)
# "is not 3", "don't think that it is 3"
_DENIED = re.compile(
    r"(?i)(?:\bnot|n't|\bnever)\s+(?:(?:think|believe|say)\s+(?:that\s+)?"
    r"(?:it|this|the\s+(?:final\s+)?answer)(?:\s+is|'s)\s+"
    r"|(?:be|equal(?:\s+to)?|exactly|just|simply|actually)\s+){0,2}$"
)
_OR = re.compile(r",?\s+or\s+")
_AND = re.compile(r",\s+(?:and\s+)?|\s+and\s+")
_ARE = re.compile(r"(?<![A-Za-z])are:?\s+$")
_REACH = 50
_JOINT = re.compile(r"\s*(?:,?\s*and|,?\s*or|,)\s*")


def find_answer(reply: str) -> str | None:
    """Return the answer of a reply, ``None`` where math-verify has to search for it."""
    reply = _TEXT.sub(lambda text: _DOLLAR.sub("", text[0]), _EMPHASIS.sub("", reply)).strip()
    boxes = list(_BOX.finditer(reply))
    if boxes and not _FINALLY.search(reply, boxes[-1].end()):
        return last_boxed(reply)
    last = _HASHES.search(reply)
    if last and not is_heading(last[1], "") and not _is_prose(last[1]):
        return last[1]
    formulas = list(_FORMULA.finditer(reply))
    inside = _DOLLAR.split(reply)[1::2]
    if inside and all(_JOINT.fullmatch(part) for part in inside):
        return _DOLLAR.sub("", reply)  # in `1$, $2` they stand the other way round
    if not formulas:
        rest = _LEAD.sub("", reply)
        if rest and "$" not in rest and not _is_prose(rest):
            return rest
        if not _is_prose(reply):
            return None if re.search(r"\\[(\[]|\$[^0-9]*\$", reply) else reply
    for anchor in _ANCHORS:
        places = [match.end() for match in anchor.finditer(reply)]
        if places:
            return _first_after(reply, places[-1], formulas)
    return _last_of(reply, formulas)


def _is_prose(text: str) -> bool:
    """Tell whether a text is sentences rather than an answer alone."""
    outside = _TEXT.sub(" ", text)
    if not re.search(r"[0-9\u00bc-\u00be]", outside) or not _SENTENCE.search(outside):
        return False
    if says_real_numbers(text):
        return False
    measured = split_unit(text)  # "3 square feet of carpet" is an answer alone
    return not (measured.unit and measured.is_sure and is_numeric(measured.value))


def _first_after(reply: str, start: int, formulas: list[re.Match[str]]) -> str | None:
    """Return the formula that soon follows a place, or else the number."""
    for place, formula in enumerate(formulas):
        if start <= formula.start() <= start + _REACH and not _is_denied(reply, formula):
            return _joined(reply, formulas, place)
    numbers = list(_NUMBER.finditer(reply, start, start + 3 * _REACH))
    for place, number in enumerate(numbers):
        if number.start() <= start + _REACH and not _is_denied(reply, number):
            return _one_or_another(reply, numbers, place)
    return _last_of(reply, formulas)


def _last_of(reply: str, formulas: list[re.Match[str]]) -> str | None:
    """Return the last formula or number."""
    end = formulas[-1].end() if formulas else 0
    numbers = list(_NUMBER.finditer(reply, end))
    stated = [place for place, number in enumerate(numbers) if not _is_denied(reply, number)]
    if stated:
        place = stated[-1]
        while place and _OR.fullmatch(reply, numbers[place - 1].end(), numbers[place].start()):
            place -= 1
        return _one_or_another(reply, numbers, place)
    denied = (numbers or formulas)[-1:]
    formulas = [formula for formula in formulas if not _is_denied(reply, formula)]
    if not formulas:
        return rf"\text{{not }}{denied[0][0].strip('$')}" if denied else None
    place = len(formulas) - 1
    while place and _JOINT.fullmatch(reply, formulas[place - 1].end(), formulas[place].start()):
        place -= 1
    return _joined(reply, formulas, place)


def _listed(reply: str, numbers: list[re.Match[str]], place: int) -> str | None:
    """Return the numbers of the list that one is of: "They are 1, 2, and 3"."""
    first = last = place
    while first and _AND.fullmatch(reply, numbers[first - 1].end(), numbers[first].start()):
        first -= 1
    while numbers[last + 1 :] and _AND.fullmatch(
        reply, numbers[last].end(), numbers[last + 1].start()
    ):
        last += 1
    before = reply[max(numbers[first].start() - 8, 0) : numbers[first].start()]
    if first == last or not _ARE.search(before):
        return None
    return ", ".join(number[0] for number in numbers[first : last + 1])


def _joined(reply: str, formulas: list[re.Match[str]], place: int) -> str:
    """Return a formula and those that "and", "or" and commas join to it."""
    parts, end = [_content(formulas[place])], formulas[place].end()
    for after in formulas[place + 1 :]:
        joint = _JOINT.fullmatch(reply, end, after.start())
        if joint is None:
            break
        content, end = _content(after), after.end()
        if "or" in joint[0] and _is_another_form(parts[-1], content):
            parts.pop()
        parts.append(content)
    percent = re.match(r"\s*(?:\\?%|percent|pct)", reply[end:])
    return ", ".join(parts) + (r"\%" if percent else "")


def _is_another_form(first: str, second: str) -> bool:
    """Tell whether two formulas are one answer: 2/5 and 0.4, or ``3x = 6`` and ``x = 2``."""
    (left, equals, _), (other, other_equals, _) = first.partition("="), second.partition("=")
    if equals and other_equals:
        return left.split() != other.split()
    value = rational(first)
    return value is not None and value == rational(second)


def _is_denied(reply: str, answer: re.Match[str]) -> bool:
    return _DENIED.search(reply[max(answer.start() - 80, 0) : answer.start()]) is not None


def _one_or_another(reply: str, numbers: list[re.Match[str]], place: int) -> str | None:
    """Return a number and those of its list, or that "or" joins to it."""
    if listed := _listed(reply, numbers, place):
        return listed
    found = [numbers[place]]
    for number in numbers[place + 1 :]:
        if not _OR.fullmatch(reply, found[-1].end(), number.start()):
            break
        found.append(number)
    if len(found) == 1:
        return _with_unit(reply, found[0])
    return ", ".join(number[0] for number in found)


def _with_unit(reply: str, number: re.Match[str]) -> str | None:
    """Return a number and its unit, ``None`` if it is part of a sum or the like."""
    if _OPERATOR_AFTER.match(reply, number.end()) or _OPERATOR_BEFORE.search(
        reply[: number.start()][-4:]
    ):
        return None
    unit = _UNIT_AFTER.match(reply, number.end())
    if unit:
        measured = split_unit(f"5{unit[0]}")
        if measured.unit and measured.unit.powers and measured.is_sure:
            return number[0] + unit[0]
    return number[0]


def _content(formula: re.Match[str]) -> str:
    return next(part for part in formula.groups() if part is not None).strip()
