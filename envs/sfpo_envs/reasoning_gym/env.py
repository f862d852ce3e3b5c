"""Reasoning-gym's tasks as a text environment."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from sfpo_envs.graders.extraction import EXTRACTORS, check_extraction
from sfpo_envs.options import instead
from sfpo_envs.problems.streams import shared_stream
from sfpo_envs.prompts import fill
from sfpo_envs.reasoning_gym.scoring import gold_answer, score
from sfpo_envs.reasoning_gym.tasks import (
    FINITE,
    NUM_ITEMS,
    Tasks,
    TaskSpec,
    import_reasoning_gym,
    make_dataset,
    parse_tasks,
)
from sfpo_envs.stream_env import StreamEnv

REASONING_GYM_PROMPTS = {
    "plain": "{question}",
    "answer_tags": (
        "{question}\n\nThink step by step, and give the final answer, and nothing else, between "
        "<answer> and </answer>."
    ),
    "boxed": "{question}\n\nThink step by step, and put the final answer within \\boxed{}.",
}
_FIRST_SEED_TOO_LARGE = 2**31  # numpy, which some tasks use, takes 32 bits of seed plus item


class ReasoningGymItem(NamedTuple):
    """One problem: the data set's entry, the data set that scores it, and what is shown of it."""

    dataset: Any
    entry: dict[str, Any]
    question: str


class ReasoningGymEnv(StreamEnv[ReasoningGymItem]):
    """Any of reasoning-gym's tasks, or a mixture: a question, one reply, the task's score.

    The answer is taken out of the reply first; a reply without one scores 0. By default the reward
    is 1.0 for a reply that is fully right and else 0.0, because reasoning-gym's scores in between
    mostly reward something other than progress. The final ``info`` has ``is_success`` (fully
    right), ``task``, and in ``metrics`` ``score``, ``has_answer`` and ``scorer_error`` (the scorer
    raised; the score is 0). Needs ``pip install 'reasoning-gym==0.1.25'``.

    Slow tasks, in seconds a problem: ``knight_swap`` 0.4, ``futoshiki`` 0.3,
    ``intermediate_integration``, ``puzzle24``, ``quantum_lock`` and ``zebra_puzzles`` 0.1;
    ``acre`` takes 4 to start. A held-out problem takes ``1 / test_fraction`` times as long, for it
    is found by drawing. ``boxnet`` and ``rush_hour`` know no answer, so that
    :attr:`Problem.answer` is blank; ``graph_color``, ``propositional_logic`` and ``rubiks_cube``
    have many, and give an example. The tasks of :data:`~sfpo_envs.reasoning_gym.tasks.REFUSED` are
    refused, with the reason.

    Replies never reach Python's ``eval``, to which nine of the scorers would hand them: see
    :mod:`sfpo_envs.reasoning_gym.scoring`.
    """

    def __init__(
        self,
        tasks: Tasks,
        difficulty: int | None = None,
        prompt_template: str = "answer_tags",
        question_pattern: str | None = None,
        extraction: str | None = None,
        partial_credit: bool = False,
        split: Literal["train", "test", "all"] = "train",
        size: int | None = None,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        problem_seed: int = 0,
        shuffle_seed: int = 0,
    ) -> None:
        r"""Create the environment.

        Args:
            tasks: A task's name; names, in equal shares; or a mapping of each name to its weight or
                to a mapping of its settings, in which ``weight`` and ``level`` (the level of its
                curriculum, an int, or ints by attribute) stand beside reasoning-gym's own:
                ``{"gcd": 2.0, "chain_sum": {"max_terms": 3, "weight": 1.0, "level": 1}}``.
            difficulty: Curriculum level, from 0 on, of all tasks that have a curriculum and no
                ``level`` of their own; beyond a task's highest level, its highest. ``None`` for
                the defaults of reasoning-gym's settings.
            prompt_template: ``"answer_tags"``, ``"boxed"``, ``"plain"``, text that contains
                ``{question}``, or a name of reasoning-gym's ``SYSTEM_PROMPTS``, which then stands
                before the question.
            question_pattern: A regular expression whose first group is the part of a question that
                is shown, so that a small model may have the bare problem: ``r": (.*) ="``.
            extraction: Where the answer is in a reply: ``"tags"`` (``<answer>``), ``"boxed"``,
                ``"whole"``, or any other of ``EXTRACTORS``. ``None`` for the template's own:
                what it asks for, else ``"whole"``.
            partial_credit: Take the task's score for reward, also in between.
            split: ``"train"``, ``"test"`` (held-out questions) or ``"all"``.
            size: How many different questions; finding them takes as long as making all of them
                once. ``None`` draws without end.
            test_fraction: Share of the questions that is held out.
            split_seed: Chooses which.
            problem_seed: Chooses the problems.
            shuffle_seed: Chooses the order in which seeds visit them.

        Raises:
            ImportError: reasoning-gym is not installed.
            ValueError: An argument is out of its range, or a name does not exist.
        """
        if not (isinstance(problem_seed, int) and 0 <= problem_seed < _FIRST_SEED_TOO_LARGE):
            raise ValueError(f"problem_seed={problem_seed!r}: must be an int from 0 to 2**31 - 1")
        specs = parse_tasks(tasks, difficulty)
        settings = json.dumps([vars(spec) for spec in specs], sort_keys=True)
        generator = _mixture(settings, problem_seed, question_pattern)
        super().__init__(
            shared_stream(generator, split, test_fraction, split_seed, size), shuffle_seed
        )
        self._template = _resolve_template(prompt_template)
        if extraction is None:
            extraction = _asked_format(self._template)
        check_extraction(extraction)
        self._extract = EXTRACTORS[extraction]
        self._partial_credit = partial_credit

    def _pose(self, item: ReasoningGymItem) -> tuple[str, str]:
        return fill(self._template, question=item.question), gold_answer(item.entry)

    def _grade_item(self, reply: str, item: ReasoningGymItem) -> tuple[float, dict[str, Any]]:
        answer = self._extract(reply)
        value, failed = score(item.dataset, item.entry, answer)
        is_success = value == 1.0
        metrics = {
            "score": value,
            "has_answer": float(answer is not None),
            "scorer_error": float(failed),
        }
        info = {
            "is_success": is_success,
            "task": item.entry["metadata"].get("source_dataset", ""),
            "metrics": metrics,
        }
        return value if self._partial_credit else float(is_success), info


@dataclass(frozen=True)
class _Mixture:
    """Draws from tasks by weight. The number decides task and item.

    The settings are JSON, so that equal mixtures have one hash.
    """

    settings: str
    problem_seed: int
    pattern: str | None

    def draw(self, number: int) -> ReasoningGymItem:
        rng = random.Random(f"reasoning_gym/{number}")
        [which] = rng.choices(range(len(self._specs)), [spec.weight for spec in self._specs])
        spec, dataset = self._specs[which], self._datasets[which]
        index = rng.randrange(NUM_ITEMS if spec.name in FINITE else 2**31)
        with _own_random_state(self.problem_seed + index):
            entry = dataset[index]
        return ReasoningGymItem(dataset, entry, self._shown(entry["question"]))

    def question(self, item: ReasoningGymItem) -> str:
        return item.question

    @functools.cached_property
    def _specs(self) -> list[TaskSpec]:
        return [TaskSpec(**spec) for spec in json.loads(self.settings)]

    @functools.cached_property
    def _datasets(self) -> list[Any]:
        return [make_dataset(spec, self.problem_seed) for spec in self._specs]

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str] | None:
        return None if self.pattern is None else re.compile(self.pattern, re.DOTALL)

    def _shown(self, question: str) -> str:
        if self._compiled is None:
            return question
        found = self._compiled.search(question)
        if found is None or not self._compiled.groups:
            raise ValueError(
                f"question_pattern={self.pattern!r}: has no group that matches in {question!r}"
            )
        return found[1]


_mixture = functools.lru_cache(maxsize=16)(_Mixture)  # both sides of a split share the data sets


@contextlib.contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators, which a few tasks draw from, and put them back afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _resolve_template(name_or_text: str) -> str:
    import_reasoning_gym()
    from reasoning_gym.utils import SYSTEM_PROMPTS

    if name_or_text in SYSTEM_PROMPTS:
        return SYSTEM_PROMPTS[name_or_text] + "\n\n{question}"
    template = REASONING_GYM_PROMPTS.get(name_or_text, name_or_text)
    if "{question}" not in template:
        names = [*REASONING_GYM_PROMPTS, *SYSTEM_PROMPTS]
        raise ValueError(
            f"prompt_template={template!r}: {instead(template, names)}, or text that contains "
            "{question}"
        )
    return template


def _asked_format(template: str) -> str:
    if "<answer>" in template:
        return "tags"
    return "boxed" if "\\boxed" in template else "whole"
