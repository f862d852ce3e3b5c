r"""The grader of mathematical answers.

Most answers are decided in this process, as text or as exact numbers, in microseconds. The others
are compared by math-verify, in a process that is killed when it takes too long: see
:mod:`sfpo_envs.graders.pool`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sfpo_envs.graders.amounts import equal_amounts
from sfpo_envs.graders.cache import ResultCache
from sfpo_envs.graders.clock import equal_times_of_day
from sfpo_envs.graders.copied import is_copied
from sfpo_envs.graders.extraction import EXTRACTORS, MAX_ANSWER_CHARS, check_extraction
from sfpo_envs.graders.families import same_parameter
from sfpo_envs.graders.grade import MAX_GOLD_CHARS, Grade, Verdict, check_gold
from sfpo_envs.graders.guards import is_too_costly
from sfpo_envs.graders.inequalities import alike
from sfpo_envs.graders.leads import without_leads
from sfpo_envs.graders.naming import as_text, as_texts
from sfpo_envs.graders.pool import ComparisonError, UngradableGoldError, equivalent
from sfpo_envs.graders.prose import only_number
from sfpo_envs.graders.quantity import comparisons, read_quantity
from sfpo_envs.graders.search import find_answer
from sfpo_envs.graders.sight import bare, equal_at_sight, equal_words
from sfpo_envs.graders.units import is_numeric

logger = logging.getLogger(__name__)

_MIN_MEMORY_MB = 256

COMPARISONS = ResultCache()
"""What math-verify decided lately, for all graders of this process."""


@dataclass
class MathGrader:
    """Compares numbers, expressions, sets, intervals, equations and plain words.

    Attributes:
        extraction: How the answer is found in a reply: a key of
            :data:`~sfpo_envs.graders.extraction.EXTRACTORS`. With ``"whole"``, the reply is
            searched for the answer: a box, what follows "answer", the last formula or number.
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

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two answers that were found are the same, as far as it can tell."""
        if gold == answer:
            return True
        if self.extraction != "whole" and max(len(gold), len(answer)) > MAX_ANSWER_CHARS:
            return False
        try:
            return self._is_right(gold[-MAX_GOLD_CHARS:], answer[-MAX_GOLD_CHARS:])
        except (_TooCostlyError, TimeoutError, ComparisonError):
            return False

    def copies(self, problem: str, gold: str, answer: str) -> bool:
        """Whether an answer that was found is an expression of the problem, not worked out.

        It may be equal to the gold answer: :meth:`__call__`, which knows no problem, takes it.
        """
        answer = answer[-MAX_GOLD_CHARS:]
        if self.extraction == "whole":
            gold, answer = find_answer(gold) or gold, find_answer(answer) or answer
        return is_copied(answer, problem, gold)

    def _compare(self, gold: str, answer: str) -> Verdict:
        if self.extraction != "whole" and len(answer) > MAX_ANSWER_CHARS:
            return Verdict.WRONG
        try:
            is_right = self._is_right(gold, answer[-MAX_GOLD_CHARS:])
        except (_TooCostlyError, TimeoutError):
            return Verdict.TIMED_OUT
        except UngradableGoldError as error:
            logger.warning("%s", error)
            return Verdict.UNGRADABLE_GOLD
        except ComparisonError as error:
            logger.warning("cannot compare answer %r with gold %r: %s", answer, gold, error)
            return Verdict.CRASHED
        return Verdict.CORRECT if is_right else Verdict.WRONG

    def _is_right(self, gold: str, answer: str) -> bool:
        equal = equal_at_sight(bare(gold), bare(answer))
        if equal is not None:
            return equal
        if self.extraction == "whole":
            found_gold, found = find_answer(gold), find_answer(answer)
            if found_gold is None or found is None:  # math-verify searches better
                texts = (
                    text if one is None else as_text(read_quantity(one).text)
                    for text, one in ((gold, found_gold), (answer, found))
                )
                return self._ask(*texts)
            gold, answer = found_gold, found
        gold, answer = _without_sentences(gold, answer)
        gold, answer = alike(*same_parameter(*without_leads(gold, answer)))
        for compare in (equal_amounts, equal_times_of_day):
            if (equal := compare(gold, answer)) is not None:
                return equal
        pairs = comparisons(read_quantity(gold), read_quantity(answer))
        verdicts = [_decided(*pair) for pair in pairs]
        return True in verdicts or any(
            self._ask(*as_texts(*pair))
            for pair, equal in zip(pairs, verdicts, strict=True)
            if equal is None
        )

    def _ask(self, gold: str, answer: str) -> bool:
        if is_too_costly(gold) or is_too_costly(answer):
            raise _TooCostlyError
        request = (gold, answer, self.timeout_s, self.memory_mb)
        return COMPARISONS.get(request, lambda: equivalent(*request), self.cache_size)


class _TooCostlyError(Exception):
    """The value of an expression is not to be computed."""


def _without_sentences(gold: str, answer: str) -> tuple[str, str]:
    """Return two answers, of a sentence the only number if the other one is a number."""
    if is_numeric(read_quantity(gold).value):
        return gold, only_number(answer) or answer
    if is_numeric(read_quantity(answer).value):
        return only_number(gold) or gold, answer
    return gold, answer


def _decided(gold: str, answer: str) -> bool | None:
    """Compare without math-verify; ``None`` if that does not decide it."""
    equal = equal_at_sight(gold, answer)
    return equal_words(gold, answer) if equal is None else equal
