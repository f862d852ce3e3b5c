"""The grader of multiple-choice answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sfpo_envs.graders.choices import ChoiceFinder
from sfpo_envs.graders.extraction import EXTRACTORS, check_extraction
from sfpo_envs.graders.grade import Grade, Verdict, check_gold


@dataclass
class MultipleChoiceGrader:
    """Compares the letter a reply chooses with the gold letter.

    :class:`~sfpo_envs.graders.choices.ChoiceFinder` says which letter that is.

    Attributes:
        extraction: How the answer is found in a reply: a key of
            :data:`~sfpo_envs.graders.extraction.EXTRACTORS`.
        letters: What there is to choose from.
    """

    extraction: str = "whole"
    letters: str = "ABCDE"

    def __post_init__(self) -> None:
        check_extraction(self.extraction)
        if not re.fullmatch("[A-Z]+", self.letters) or len(set(self.letters)) < len(self.letters):
            raise ValueError(f"letters={self.letters!r}: must be capitals from A to Z, each once")
        self._find = ChoiceFinder(self.letters)

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade a reply."""
        gold_choice = None if check_gold(gold) else self._find.alone(gold)
        if gold_choice is None:
            return Grade(Verdict.UNGRADABLE_GOLD)
        answer = EXTRACTORS[self.extraction](reply)
        choice = self._find(answer) if answer is not None else None
        if choice is None:
            return Grade(Verdict.NO_ANSWER)
        return Grade(Verdict.CORRECT if choice == gold_choice else Verdict.WRONG, choice)
