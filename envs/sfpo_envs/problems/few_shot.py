"""Solved examples before a problem."""

from __future__ import annotations

from sfpo_envs.graders import EXTRACTORS
from sfpo_envs.problems.dataset import MathDataset
from sfpo_envs.problems.permutation import KeyedPermutation
from sfpo_envs.problems.splits import same_text
from sfpo_envs.prompts import Example, fill

_REPLY_ENDS = {
    "boxed": "\\boxed{{answer}}",
    "answer_line": "Answer: {answer}",
    "hashes": "#### {answer}",
    "tags": "</think> <answer> {answer} </answer>",
}
"""How a reply ends in which an extraction finds the answer; with the bare answer otherwise."""


def example_reply(answer: str, solution: str, extraction: str) -> str:
    """Return a reply in which an extraction finds the answer.

    Args:
        answer: The answer.
        solution: A worked solution, or nothing.
        extraction: A key of :data:`~sfpo_envs.graders.EXTRACTORS`.
    """
    if extraction == "whole":
        return answer  # there is no room for a solution
    if solution and EXTRACTORS[extraction](solution) == answer:
        return solution
    end = fill(_REPLY_ENDS.get(extraction, "{answer}"), answer=answer)
    return f"{solution}\n{end}" if solution else end


class FewShot:
    """The same few problems with their replies before each prompt, but never its own problem."""

    def __init__(self, data: MathDataset, count: int, extraction: str, seed: int = 0) -> None:
        """Choose the examples.

        Args:
            data: Where they are taken from.
            count: How many to show.
            extraction: Where their replies have the answer.
            seed: Chooses which.

        Raises:
            ValueError: ``count`` is out of its range.
        """
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"num_few_shot={count!r}: must be an int from 0 on")
        self._count = count
        self._examples: dict[str, Example] = {}
        order = KeyedPermutation(len(data.problems), "few_shot", seed)
        for index in map(order, range(len(data.problems) if count else 0)):
            problem, answer = data.problems[index], data.answers[index]
            reply = example_reply(answer, data.solutions[index], extraction)
            self._examples.setdefault(same_text(problem), (problem, reply))
            if len(self._examples) > count:  # one to spare for the problem itself
                return
        if count:
            raise ValueError(
                f"num_few_shot={count}: must be less than the {len(self._examples)} different "
                f"problems of {data.name} to choose from"
            )

    def __call__(self, problem: str) -> list[Example]:
        """Return the examples to show before a problem."""
        own = same_text(problem)
        others = [example for text, example in self._examples.items() if text != own]
        return others[: self._count]
