"""The grader of mathematical answers.

Most answers are decided in this process, as text or as exact numbers, in microseconds. The others
are compared by math-verify, in a process that is killed when it takes too long: see
:mod:`sfpo_envs.graders.pool`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sfpo_envs.graders.extraction import EXTRACTORS, MAX_ANSWER_CHARS, check_extraction
from sfpo_envs.graders.grade import Grade, Verdict, check_gold
from sfpo_envs.graders.pool import ComparisonError, equivalent
from sfpo_envs.graders.sight import bare, equal_at_sight

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MathGrader:
    """Compares numbers, expressions, sets, intervals, equations and plain words.

    Attributes:
        extraction: How the answer is found in a reply: a key of
            :data:`~sfpo_envs.graders.extraction.EXTRACTORS`.
        timeout_s: Time a comparison may take, in seconds.
    """

    extraction: str = "boxed"
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        check_extraction(self.extraction)
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s={self.timeout_s}: must be positive")

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade a reply.

        Raises:
            RuntimeError: math-verify cannot be run.
        """
        if check_gold(gold):
            return Grade(Verdict.UNGRADABLE_GOLD)
        answer = EXTRACTORS[self.extraction](reply)
        if answer is None:
            return Grade(Verdict.NO_ANSWER)
        return Grade(self._compare(gold, answer), answer)

    def _compare(self, gold: str, answer: str) -> Verdict:
        if len(answer) > MAX_ANSWER_CHARS:
            return Verdict.WRONG
        gold, answer = bare(gold), bare(answer)
        equal = equal_at_sight(gold, answer)
        if equal is None:
            try:
                equal = equivalent(gold, answer, self.timeout_s)
            except TimeoutError:
                return Verdict.TIMED_OUT
            except ComparisonError as error:
                logger.warning("cannot compare answer %r with gold %r: %s", answer, gold, error)
                return Verdict.CRASHED
        return Verdict.CORRECT if equal else Verdict.WRONG
