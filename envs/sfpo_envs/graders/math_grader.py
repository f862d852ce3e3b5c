r"""The grader of mathematical answers.

Most answers are decided in this process, as text or as exact numbers, in microseconds. The others
are compared by math-verify, in a process that is killed when it takes too long: see
:mod:`sfpo_envs.graders.pool`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from sfpo_envs.graders.cache import ResultCache
from sfpo_envs.graders.extraction import EXTRACTORS, MAX_ANSWER_CHARS, check_extraction
from sfpo_envs.graders.grade import MAX_GOLD_CHARS, Grade, Verdict, check_gold
from sfpo_envs.graders.guards import is_too_costly
from sfpo_envs.graders.pool import ComparisonError, UngradableGoldError, equivalent
from sfpo_envs.graders.sight import bare, equal_at_sight

logger = logging.getLogger(__name__)

_MIN_MEMORY_MB = 256

COMPARISONS = ResultCache()
"""What math-verify decided lately, for all graders of this process."""

# Where LaTeX begins in a text, a plain number, and three words in a row.
_SEARCHABLE = re.compile(
    r"\$|\\[(\[]|\\boxed"
    r"|^[+-]?(?:[0-9]{1,3}(?:[ ,][0-9]{3})*|[0-9]+)?(?:[.,][0-9]+)?$"
    r"|(?:(?<![\\a-zA-Z])[a-zA-Z']+[\s,:]+){3}"
)
# I_{\max} and k_{\mathrm{B}} are names, but only I_{max} and k_{B} are read as such.
_NAME = re.compile(
    r"_\s*\{\s*\\(?:(?:mathrm|text|operatorname)\s*\{\s*([a-zA-Z]+)\s*\}|([a-zA-Z]+))\s*\}"
)
_DOLLAR = re.compile(r"(?<!\\)\$")


@dataclass
class MathGrader:
    """Compares numbers, expressions, sets, intervals, equations and plain words.

    Attributes:
        extraction: How the answer is found in a reply: a key of
            :data:`~sfpo_envs.graders.extraction.EXTRACTORS`. With ``"whole"``, math-verify searches
            the reply for the answer: a box, a formula or a number, the last before the others.
        timeout_s: Time a comparison may take, in seconds.
        memory_mb: Address space a comparison may take, in MiB; at least 256. Linux only.
        cache_size: How many of math-verify's last decisions this process remembers for all its
            graders, the largest number of any of them; 0 neither asks nor adds to them.
    """

    extraction: str = "boxed"
    timeout_s: float = 5.0
    memory_mb: int = 1024
    cache_size: int = 10_000

    def __post_init__(self) -> None:
        check_extraction(self.extraction)
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s={self.timeout_s}: must be positive")
        if self.memory_mb < _MIN_MEMORY_MB:
            raise ValueError(f"memory_mb={self.memory_mb}: must be {_MIN_MEMORY_MB} or more")
        if self.cache_size < 0:
            raise ValueError(f"cache_size={self.cache_size}: must not be negative")

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade a reply.

        Raises:
            RuntimeError: math-verify cannot be run.
        """
        if reason := check_gold(gold):
            logger.warning("gold %r %s", gold[:80], reason)
            return Grade(Verdict.UNGRADABLE_GOLD)
        answer = EXTRACTORS[self.extraction](reply)
        if answer is None:
            return Grade(Verdict.NO_ANSWER)
        return Grade(self._compare(gold, answer), answer)

    def _compare(self, gold: str, answer: str) -> Verdict:
        if self.extraction == "whole":
            answer = answer[-MAX_GOLD_CHARS:]
        elif len(answer) > MAX_ANSWER_CHARS:
            return Verdict.WRONG
        equal = equal_at_sight(bare(gold), bare(answer))
        if equal is None:
            if is_too_costly(gold) or is_too_costly(answer):
                return Verdict.TIMED_OUT
            try:
                equal = self._ask_math_verify(gold, answer)
            except TimeoutError:
                return Verdict.TIMED_OUT
            except UngradableGoldError as error:
                logger.warning("%s", error)
                return Verdict.UNGRADABLE_GOLD
            except ComparisonError as error:
                logger.warning("cannot compare answer %r with gold %r: %s", answer, gold, error)
                return Verdict.CRASHED
        return Verdict.CORRECT if equal else Verdict.WRONG

    def _ask_math_verify(self, gold: str, answer: str) -> bool:
        search = self.extraction == "whole"
        texts = _as_text(gold, search), _as_text(answer, search)
        request = (*texts, self.timeout_s, self.memory_mb)
        return COMPARISONS.get(request, lambda: equivalent(*request), self.cache_size)


def _as_text(answer: str, search: bool) -> str:
    """Return a text in which math-verify finds the answer, all of it unless it is to search."""
    answer = _NAME.sub(r"_{\1\2}", answer)
    if search and _SEARCHABLE.search(answer):
        return answer
    return rf"\boxed{{{_DOLLAR.sub('', bare(answer))}}}"
