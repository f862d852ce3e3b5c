"""Graders that are functions of the user's."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from sfpo_envs.graders.grade import Grade, Verdict, check_gold
from sfpo_envs.time_limit import TimeLimitError, call_within

logger = logging.getLogger(__name__)


@dataclass
class CustomGrader:
    """Makes a grader of a function of reply and gold answer.

    Attributes:
        function: Returns a grade, a bool, or a number of which 0.5 and more mean a right answer.
        timeout_s: A call that takes longer is left behind in a thread of its own, where signals do
            not work. ``None``: it may take as long as it likes, in the calling thread.
        num_crashed: How often it raised or returned something else.
    """

    function: Callable[[str, str], Grade | bool | float]
    timeout_s: float | None = None
    num_crashed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise ValueError(f"timeout_s={self.timeout_s!r}: must be positive and finite, or None")

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade; what the function raises is logged, the first time with its traceback."""
        if check_gold(gold):
            return Grade(Verdict.UNGRADABLE_GOLD)
        try:
            return _as_grade(self._call(reply, gold), reply)
        except TimeLimitError:
            logger.warning("grader %r took too long on gold %r", self.function, gold)
            return Grade(Verdict.TIMED_OUT)
        except Exception as error:
            self.num_crashed += 1
            logger.warning(
                "grader %r failed on gold %r: %r", self.function, gold, error,
                exc_info=self.num_crashed == 1,
            )  # fmt: skip
            return Grade(Verdict.CRASHED)

    def _call(self, reply: str, gold: str) -> object:
        if self.timeout_s is None:
            return self.function(reply, gold)
        return call_within(self.timeout_s, self.function, reply, gold)


def _as_grade(result: object, reply: str) -> Grade:
    if isinstance(result, Grade):
        return result
    value = float(result)  # type: ignore[arg-type]
    if not math.isfinite(value):
        raise ValueError(f"returned {value}")
    return Grade(Verdict.CORRECT if value >= 0.5 else Verdict.WRONG, reply)
