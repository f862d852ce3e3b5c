r"""Math problems from a file, graded by the final answer of the reply."""

from __future__ import annotations

import os
from typing import Any, Literal

from sfpo_envs.dataset import load_math_dataset
from sfpo_envs.graders import Verdict, make_grader
from sfpo_envs.prompts import fill, resolve_math_template
from sfpo_envs.single_turn import Problem, SingleTurnEnv


class MathReasoningEnv(SingleTurnEnv):
    r"""Problems of a JSONL file, answered by reasoning that ends in ``\boxed{answer}``.

    The reward is 1.0 for a right answer, ``format_reward`` for a wrong one in the asked format, and
    0.0 for a reply without an answer or with one that could not be judged within the limits.

    The final ``info`` has ``is_success``, ``verdict`` (the value of a
    :class:`~sfpo_envs.graders.Verdict`), ``extracted_answer``, and in ``metrics`` ``has_answer``,
    ``grader_timeout`` and ``grader_error``, each 0.0 or 1.0.

    Attributes:
        num_skipped: Lines of the file dropped because their answer was blank.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        prompt_template: str = "sfpo",
        extraction: Literal["boxed", "last_number"] = "boxed",
        format_reward: float = 0.0,
        problem_field: str = "problem",
        answer_field: str = "answer",
        skip_blank: bool = False,
        grader_timeout_s: float = 5.0,
        shuffle_seed: int = 0,
    ) -> None:
        r"""Create the environment.

        Args:
            dataset: Path of a ``.jsonl`` or ``.jsonl.gz`` file, one problem a line.
            prompt_template: ``"sfpo"``, ``"qwen_math"``, ``"boxed"``, ``"plain"``, or text that
                contains ``{problem}``.
            extraction: Where the answer of a reply is: in its last balanced ``\boxed{}``, or its
                last number, for models that do not box.
            format_reward: Reward of a wrong answer in the asked format. The published SFPO reward
                pays 0.1.
            problem_field: Field of the file with the problem.
            answer_field: Field of the file with the answer.
            skip_blank: Drop problems whose answer is blank instead of raising.
            grader_timeout_s: Time after which a comparison is given up, in seconds.
            shuffle_seed: Chooses the order in which seeds visit the problems.

        Raises:
            ValueError: An argument is out of its range, or the file is not what it should be; the
                message then names file and line.
        """
        super().__init__(shuffle_seed)
        if not 0 <= format_reward <= 1:
            raise ValueError(f"format_reward={format_reward}: must be from 0 to 1")
        if not grader_timeout_s > 0:
            raise ValueError(f"grader_timeout_s={grader_timeout_s}: must be positive")
        self._template = resolve_math_template(prompt_template)
        self._data = load_math_dataset(dataset, problem_field, answer_field, skip_blank)
        self._grader = make_grader("math", extraction=extraction, timeout_s=grader_timeout_s)
        self._format_reward = format_reward
        self.num_skipped = self._data.num_skipped

    @property
    def num_problems(self) -> int:
        """How many problems the file has, dropped ones not counted."""
        return len(self._data.problems)

    def _problem_at(self, index: int) -> Problem:
        prompt = fill(self._template, problem=self._data.problems[index])
        return Problem(prompt, self._data.answers[index])

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        grade = self._grader(reply, answer)
        is_success = grade.verdict is Verdict.CORRECT
        reward = {Verdict.CORRECT: 1.0, Verdict.WRONG: self._format_reward}.get(grade.verdict, 0.0)
        info = {
            "is_success": is_success,
            "verdict": grade.verdict.value,
            "extracted_answer": grade.extracted,
            "metrics": {
                "has_answer": float(grade.verdict is not Verdict.NO_ANSWER),
                "grader_timeout": float(grade.verdict is Verdict.TIMED_OUT),
                "grader_error": float(grade.verdict is Verdict.CRASHED),
            },
        }
        return reward, info
