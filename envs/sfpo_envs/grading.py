"""Deciding whether a reply is right.

Most answers are decided here, as text or as exact numbers, in microseconds. The others are compared
by math-verify, in a process that is killed when it takes too long: see :mod:`sfpo_envs.comparison`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from sfpo_envs.comparison import ComparisonError, equivalent
from sfpo_envs.extraction import MAX_ANSWER_CHARS, last_boxed, last_number

logger = logging.getLogger(__name__)

EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "boxed": last_boxed,
    "last_number": last_number,
}
"""How the answer is found in a reply, by name."""

_SPACING = re.compile(r"\\[!,;: ]|\\(?:left|right|displaystyle)(?![a-zA-Z])")
# White space between two words or numbers stays: "1 1/2" is not "11/2", nor "\pi r" a command.
_IDLE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_RATIONAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*|/0*[1-9][0-9]*)?|\.[0-9]+)")


class Verdict(StrEnum):
    """What the grader found."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    """The reply has no answer in the asked format."""
    TIMEOUT = "timeout"
    """The comparison was given up."""
    ERROR = "error"
    """The comparison failed; the log has the reason."""


@dataclass(frozen=True)
class Grade:
    """The result of grading one reply.

    Attributes:
        verdict: What the grader found.
        extracted: The answer found in the reply, ``None`` if there is none.
    """

    verdict: Verdict
    extracted: str | None


def grade_reply(reply: str, gold: str, extraction: str = "boxed", timeout_s: float = 5.0) -> Grade:
    """Find the answer in a reply and compare it with the right one. Thread-safe.

    Args:
        reply: Any text.
        gold: The right answer, LaTeX or plain text, without a box.
        extraction: A key of :data:`EXTRACTORS`.
        timeout_s: Time the comparison may take, in seconds.

    Raises:
        ValueError: ``gold`` is blank or longer than :data:`MAX_ANSWER_CHARS`, or ``extraction``
            is unknown.
        RuntimeError: math-verify cannot be run.
    """
    if extraction not in EXTRACTORS:
        raise ValueError(f"extraction={extraction!r}: must be one of {', '.join(EXTRACTORS)}")
    if not gold.strip() or len(gold) > MAX_ANSWER_CHARS:
        raise ValueError(f"gold={gold[:80]!r}: must have 1 to {MAX_ANSWER_CHARS} characters")
    answer = EXTRACTORS[extraction](reply)
    if answer is None:
        return Grade(Verdict.NO_ANSWER, None)
    return Grade(_compare(gold, answer, timeout_s), answer)


def _compare(gold: str, answer: str, timeout_s: float) -> Verdict:
    if len(answer) > MAX_ANSWER_CHARS:
        return Verdict.WRONG
    gold, answer = _bare(gold), _bare(answer)
    equal = _equal_at_sight(gold, answer)
    if equal is None:
        try:
            equal = equivalent(gold, answer, timeout_s)
        except TimeoutError:
            return Verdict.TIMEOUT
        except ComparisonError as error:
            logger.warning("cannot compare answer %r with gold %r: %s", answer, gold, error)
            return Verdict.ERROR
    return Verdict.CORRECT if equal else Verdict.WRONG


def _bare(text: str) -> str:
    """Return an answer without dollar signs around it, with ASCII minus signs."""
    return text.strip().strip("$").strip().replace("\u2212", "-")


def _equal_at_sight(gold: str, answer: str) -> bool | None:
    """Compare as text and as exact numbers; ``None`` if that does not decide it."""
    gold, answer = _canonical(gold), _canonical(answer)
    if gold == answer:
        return True
    gold_value, value = _rational(gold), _rational(answer)
    if gold_value is None or value is None:
        return None
    if gold_value == value:
        return True
    # Different integers differ; of other numbers, math-verify takes close ones for equal.
    return False if gold_value.denominator == value.denominator == 1 else None


def _canonical(text: str) -> str:
    """Return an answer without what only lays it out."""
    text = _SPACING.sub(" ", text.replace("{,}", ","))
    text = _FRACTION.sub(r"\1\2/\3", _IDLE_SPACE.sub("", text))
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _rational(text: str) -> Fraction | None:
    return Fraction(text) if _RATIONAL.fullmatch(text) else None
