"""What graders return, and the interface all of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

MAX_GOLD_CHARS = 4096
"""Longest gold answer that is graded against."""


class Verdict(StrEnum):
    """What a grader found. Only ``WRONG`` and ``NO_ANSWER`` say something about the reply alone."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    """The reply has no answer in the asked format."""
    UNGRADABLE_GOLD = "ungradable_gold"
    """No reply could be right: the gold answer is blank, too long or no answer of this kind."""
    TIMED_OUT = "timed_out"
    """The comparison took too long, or would have."""
    CRASHED = "crashed"
    """The comparison failed or took too much memory; the log has the reason."""


@dataclass(frozen=True)
class Grade:
    """The result of grading one reply.

    Attributes:
        verdict: What the grader found.
        extracted: The answer found in the reply, ``None`` if there is none.
    """

    verdict: Verdict
    extracted: str | None = None


Grader = Callable[[str, str], Grade]
"""Grades a reply, its first argument, against the gold answer, its second; raises nothing."""


def check_gold(gold: str) -> str | None:
    """Return why no reply can be right, or ``None`` if one can.

    Args:
        gold: The right answer of a problem.
    """
    if not gold.strip().strip("$").strip():
        return "is blank"
    if len(gold) > MAX_GOLD_CHARS:
        return f"has {len(gold)} characters, more than {MAX_GOLD_CHARS}"
    return None
