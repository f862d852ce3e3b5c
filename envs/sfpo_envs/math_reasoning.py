r"""Math problems of a file or of the hub, graded by the final answer of the reply."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

from sfpo_envs.graders import EXTRACTORS, Grade, Verdict, make_grader
from sfpo_envs.options import instead, refuse_unknown
from sfpo_envs.problems.dataset import load_math_dataset
from sfpo_envs.problems.few_shot import FewShot
from sfpo_envs.problems.splits import take_split
from sfpo_envs.prompts import resolve_math_prompt
from sfpo_envs.rewards import RewardFunction, make_overlong, make_reward, reward_range
from sfpo_envs.single_turn import Problem, SingleTurnEnv, SourcedProblem
from sfpo_envs.spaces import MAX_TEXT_CHARS, ChatMessages

logger = logging.getLogger(__name__)

_SILENT = (Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER)
_COPIED = ("refuse", "accept")


class MathReasoningEnv(SingleTurnEnv):
    r"""Problems with a known answer, answered by reasoning that ends in it.

    The final ``info`` has ``is_success``, ``verdict`` (the value of a
    :class:`~sfpo_envs.graders.Verdict`), ``extracted_answer``, and in ``metrics`` each verdict by
    its name, 0.0 or 1.0, ``copied`` likewise, where copied answers are refused, and
    ``overlong_penalty`` where there is one. Verdicts that say nothing about the reply, as
    ``timed_out``, are logged too.

    ``docs/math_problems.md`` shows what the options are for.

    Attributes:
        num_skipped: Rows dropped because they had no answer.
        reward_range: The lowest and the highest reward there can be.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        *,
        dataset_config: str | None = None,
        dataset_split: str | None = None,
        dataset_revision: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        problem_field: str | None = None,
        answer_field: str | None = None,
        answer_pattern: str | None = None,
        solution_field: str | None = None,
        filters: Mapping[str, Any] | None = None,
        skip_blank: bool = False,
        split: Literal["train", "test", "all"] = "all",
        test_fraction: float | None = None,
        num_test: int | None = None,
        split_seed: int = 0,
        prompt_template: str = "sfpo",
        system_prompt: str | None = None,
        num_few_shot: int = 0,
        few_shot_dataset: str | os.PathLike[str] | None = None,
        extraction: str | None = None,
        grader: str | Callable[[str, str], Grade | bool | float] = "math",
        grader_settings: Mapping[str, Any] | None = None,
        copied_answers: Literal["refuse", "accept"] = "refuse",
        reward: str | Mapping[str, float] | RewardFunction = "correct",
        overlong: Mapping[str, Any] | None = None,
        shuffle_seed: int = 0,
        **unknown: Any,
    ) -> None:
        r"""Create the environment.

        Args:
            dataset: Path of a ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file, name of an evaluation
                set (a key of :data:`~sfpo_envs.problems.eval_sets.EVAL_SETS`), path of a folder, or
                id of a data set of the Hugging Face hub; the first of these that there is.
            dataset_config: Which configuration of a data set of the hub.
            dataset_split: Which split of a data set of the hub; ``None`` if it has only one.
            dataset_revision: Which revision of a data set of the hub.
            data_dir: Folder with local files of the evaluation sets; ``None`` is what the
                environment variable ``SFPO_DATA_DIR`` says, or the hub.
            problem_field: Field with the problem, ``"problem"`` if ``None``; dots lead into nested
                fields and lists, as in ``"prompt.0.content"``.
            answer_field: Field with the answer, a string or a number, ``"answer"`` if ``None``.
            answer_pattern: What finds the answer in its field, at its last place: an extraction by
                name (``"hashes"`` for GSM8K, ``"boxed"`` for worked solutions) or a regular
                expression, whose first group counts; ``None`` if it is the whole field.
            solution_field: Field with a worked solution, for few-shot examples.
            filters: Keep only rows whose fields, by name, have a value, or one of several; with
                ``{"not": ...}`` none of them. ``None`` is null, missing or not a number.
            skip_blank: Drop and count problems without an answer instead of raising: where it is
                blank, null, missing or not a number, or ``answer_pattern`` finds none.
            split: Which part of the problems: ``"all"``, or ``"train"`` or ``"test"`` with one of
                the next two.
            test_fraction: About which share of the problems is held out for ``"test"``.
            num_test: How many different problems are held out for ``"test"``.
            split_seed: Chooses which problems are held out.
            prompt_template: A key of :data:`~sfpo_envs.prompts.MATH_PROMPTS`, or text that contains
                ``{problem}``.
            system_prompt: System message; replaces that of the template. Prompts are then chat
                messages.
            num_few_shot: How many solved examples to show before a problem.
            few_shot_dataset: Where they are from, read with the same options; ``None`` is the
                training part, or all problems where ``split`` is ``"all"``. A problem is never its
                own example.
            extraction: Where the answer of a reply is, a key of
                :data:`~sfpo_envs.graders.EXTRACTORS`; ``None`` is what the template asks for.
            grader: A key of :data:`~sfpo_envs.graders.GRADERS`, or a function of reply and answer.
            grader_settings: Further settings of the grader, as ``{"timeout_s": 2}``; that one is
                the only one of a function.
            copied_answers: Whether the grader ``"math"`` takes an expression of the problem for its
                answer that is yet to be worked out: ``"refuse"`` makes it wrong, and counts it.
            reward: A key of :data:`~sfpo_envs.rewards.REWARDS`, what each verdict is worth by its
                name (0 where it is not named), or a function of the grade and the reply.
            overlong: Options of :class:`~sfpo_envs.rewards.Overlong`, at least ``max_length`` and
                ``buffer``, in characters; punishes replies for their length.
            shuffle_seed: Chooses the order in which seeds visit the problems.
            **unknown: None; what is here is refused with the name of the nearest option.

        Raises:
            ValueError: An argument is unknown or out of its range, or the data are not what they
                should be; the message then names file and line.
            ImportError: A package that reads this kind of data is not installed.
        """
        super().__init__(shuffle_seed)
        refuse_unknown(unknown, MathReasoningEnv)
        self._prompt = resolve_math_prompt(prompt_template, system_prompt)
        extraction = extraction or self._prompt.extraction
        if extraction not in EXTRACTORS:
            raise ValueError(f"extraction={extraction!r}: {instead(extraction, EXTRACTORS)}")
        settings = {} if callable(grader) else {"extraction": extraction}
        self._grader = make_grader(grader, **settings | dict(grader_settings or {}))
        if copied_answers not in _COPIED:
            raise ValueError(
                f"copied_answers={copied_answers!r}: {instead(copied_answers, _COPIED)}"
            )
        refuses = copied_answers == "refuse"
        self._copies = getattr(self._grader, "copies", None) if refuses else None
        self._reward = make_reward(reward)
        self._overlong = make_overlong(overlong)
        self.reward_range = reward_range(self._reward, self._overlong)
        load = partial(
            load_math_dataset,
            dataset_config=dataset_config,
            dataset_split=dataset_split,
            dataset_revision=dataset_revision,
            data_dir=data_dir,
            problem_field=problem_field,
            answer_field=answer_field,
            answer_pattern=answer_pattern,
            solution_field=solution_field,
            filters=filters,
            skip_blank=skip_blank,
        )
        whole = load(dataset)
        self._data = take_split(whole, split, test_fraction, num_test, split_seed)
        self.num_skipped = whole.num_skipped
        if few_shot_dataset is not None:
            examples = load(few_shot_dataset)
        else:
            side = "all" if split == "all" else "train"
            examples = take_split(whole, side, test_fraction, num_test, split_seed)
        self._few_shot = FewShot(examples, num_few_shot, extraction, split_seed)
        if self._prompt.system is not None:
            most = 2 * num_few_shot + 2
            self.observation_space = ChatMessages(MAX_TEXT_CHARS, max_messages=most, min_messages=0)

    @property
    def num_problems(self) -> int:
        """How many problems this part has, dropped ones not counted."""
        return len(self._data.problems)

    def equivalent(self, answer: str, other: str) -> bool:
        """Return whether the grader takes two answers that it found for the same one.

        A grader says so in ``equal(gold, answer)``; of one that does not, and of functions, their
        text decides, white space aside.

        Args:
            answer: The ``extracted_answer`` of a reply.
            other: That of another reply to the same problem.
        """
        equal = getattr(self._grader, "equal", None)
        if equal is None:
            return answer.split() == other.split()
        return bool(equal(answer, other))

    def _problem_at(self, index: int) -> Problem:
        problem = self._data.problems[index]
        prompt = self._prompt.render(problem, self._few_shot(problem))
        return SourcedProblem(prompt, self._data.answers[index], problem)

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        grade = self._grader(reply, answer)
        copied = self._is_copied(grade, answer)
        if copied:
            grade = replace(grade, verdict=Verdict.WRONG)
        reward = float(self._reward(grade, reply))
        if not math.isfinite(reward):
            raise ValueError(f"reward={self._reward!r}: returned {reward}, must be finite")
        metrics = {verdict.value: float(verdict is grade.verdict) for verdict in Verdict}
        if self._copies is not None:
            metrics["copied"] = float(copied)
        if self._overlong is not None:
            penalty = self._overlong.penalty(self._overlong.count(reply))
            reward += penalty
            metrics["overlong_penalty"] = penalty
        if grade.verdict not in _SILENT:
            logger.warning(
                "%s: answer %.80r, right answer %.80r", grade.verdict, grade.extracted, answer
            )
        info = {
            "is_success": grade.verdict is Verdict.CORRECT,
            "verdict": grade.verdict.value,
            "extracted_answer": grade.extracted,
            "metrics": metrics,
        }
        return reward, info

    def _is_copied(self, grade: Grade, answer: str) -> bool:
        """Tell whether an answer that is right was copied from the problem under way."""
        if grade.verdict is not Verdict.CORRECT or grade.extracted is None or self._copies is None:
            return False
        problem = cast(SourcedProblem, self._current).source  # its text alone, without the prompt
        return bool(self._copies(problem, answer, grade.extracted))
