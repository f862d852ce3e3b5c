"""The grader that compares text."""

from __future__ import annotations

from dataclasses import dataclass

from sfpo_envs.graders.extraction import EXTRACTORS, check_extraction
from sfpo_envs.graders.grade import Grade, Verdict, check_gold


@dataclass
class ExactGrader:
    """Takes an answer for right that is the gold answer, white space aside.

    Attributes:
        extraction: How the answer is found in a reply: a key of
            :data:`~sfpo_envs.graders.extraction.EXTRACTORS`.
        ignore_case: Whether ``Paris`` is ``paris``.
    """

    extraction: str = "whole"
    ignore_case: bool = False

    def __post_init__(self) -> None:
        check_extraction(self.extraction)

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade a reply."""
        if check_gold(gold):
            return Grade(Verdict.UNGRADABLE_GOLD)
        answer = EXTRACTORS[self.extraction](reply)
        if answer is None:
            return Grade(Verdict.NO_ANSWER)
        return Grade(Verdict.CORRECT if self.equal(gold, answer) else Verdict.WRONG, answer)

    def equal(self, gold: str, answer: str) -> bool:
        """Whether two answers that were found are the same."""
        return self._normal(answer) == self._normal(gold)

    def _normal(self, text: str) -> str:
        text = " ".join(text.split())
        return text.casefold() if self.ignore_case else text
