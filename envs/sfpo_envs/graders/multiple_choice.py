"""The grader of multiple-choice answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sfpo_envs.graders.extraction import EXTRACTORS, check_extraction
from sfpo_envs.graders.grade import Grade, Verdict, check_gold


@dataclass
class MultipleChoiceGrader:
    """Compares the letter a reply chooses with the gold letter.

    The choice is, in this order: all that there is (``B``, ``(B)``, ``B.``); what the last
    "answer is" or "answer:" is followed by; the letter that begins the answer (``B. Paris``); the
    last letter in brackets. Only the first two may be in lower case.

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
        capital, small = f"[{self.letters}]", f"[{self.letters.lower()}]"
        in_tex = r"\$?(?:\\(?:text|textbf|mathrm|mathbf|boxed)\{)?"
        self._alone = re.compile(rf"\**{in_tex}\(?({capital}|{small})\)?[}}$.)*:]*")
        self._announced = re.compile(
            r"(?i:\banswer\s*(?:is|:|would be)\**:?)\s*(?i:option|choice)?\s*"
            # "the answer is a train" chooses nothing
            rf"\**{in_tex}\(?({capital}(?![\w'])|{small}(?=\)|[}}$.*]*(?:\n|$)))"
        )
        self._leading = re.compile(rf"({capital})[).:](?!\w)")
        self._bracketed = re.compile(rf"\(({capital})\)")

    def __call__(self, reply: str, gold: str) -> Grade:
        """Grade a reply."""
        gold_match = self._alone.fullmatch(gold.strip())
        if check_gold(gold) or not gold_match:
            return Grade(Verdict.UNGRADABLE_GOLD)
        answer = EXTRACTORS[self.extraction](reply)
        choice = self._choice(answer) if answer is not None else None
        if choice is None:
            return Grade(Verdict.NO_ANSWER)
        is_right = choice == gold_match[1].upper()
        return Grade(Verdict.CORRECT if is_right else Verdict.WRONG, choice)

    def _choice(self, text: str) -> str | None:
        if match := self._alone.fullmatch(text):
            return match[1].upper()
        if found := self._announced.findall(text):
            return found[-1].upper()
        if match := self._leading.match(text):
            return match[1]
        bracketed = self._bracketed.findall(text)
        return bracketed[-1] if bracketed else None
