"""Recorded replies, judged again by another grader."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfpo_envs import plugins

from sfpo_rllib.core.registry import imported, name_of
from sfpo_rllib.env_runners.env_values import described
from sfpo_rllib.env_runners.text_envs import make_text_env
from sfpo_rllib.recordings.store import Part, find_parts

_COLUMNS = ("seed", "member", "verdict", "is_success", "messages", "info")
CORRECT, WRONG, NONE = "correct", "wrong", "none"


@dataclass(frozen=True)
class Change:
    """A reply that is now judged otherwise.

    Attributes:
        stage: "training" or "evaluation".
        iteration: That it was sampled in.
        seed: Of the problem.
        member: Of the group.
        before: The verdict that was recorded; in the words of graders, where there was no more than
            `is_success`.
        after: The new one.
        extracted: The answer that was found in the reply, None if none was.
        answer: The right one.
        reply: What was judged.
    """

    stage: str
    iteration: int
    seed: int
    member: int
    before: str
    after: str
    extracted: str | None
    answer: str
    reply: str


@dataclass
class Regraded:
    """What came of it.

    Attributes:
        grader: Its name.
        counts: Episodes by the verdict before and after.
        changes: Those whose verdict is another.
    """

    grader: str
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)

    @property
    def num_episodes(self) -> int:
        """How many were judged."""
        return self.counts.total()

    def num_correct(self) -> tuple[int, int]:
        """How many were right, before and after."""
        before = sum(n for (old, _), n in self.counts.items() if old == CORRECT)
        after = sum(n for (_, new), n in self.counts.items() if new == CORRECT)
        return before, after

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        before, after = self.num_correct()
        return {
            "grader": self.grader,
            "episodes": self.num_episodes,
            "correct_before": before,
            "correct_after": after,
            "counts": [
                {"before": old, "after": new, "episodes": count}
                for (old, new), count in sorted(self.counts.items())
            ],
            "changed": [vars(change) for change in self.changes],
        }


def regrade(
    run: str | Path,
    grader: str | Callable[[str, str], Any],
    *,
    settings: Mapping[str, Any] | None = None,
    stage: str | None = None,
    env: str | None = None,
    env_config: Mapping[str, Any] | None = None,
) -> Regraded:
    """Judges the last reply of each recorded episode by another grader.

    The right answer is that of the environment's `problem(seed)`, as those of sfpo_envs have it, or
    else of "answer" in the recorded info.

    Args:
        run: See `store.find_parts`.
        grader: The name of one of `sfpo_envs.graders`, a function of reply and answer, or
            "module:name" of one.
        settings: Of the grader.
        stage: "training" or "evaluation". None: both.
        env: The environment. None: that of the run, if it was given as an id.
        env_config: More of its options, or others, than the run's.

    Raises:
        ValueError: If there are no replies or no right answers, or the grader is unknown.
    """
    parts = [part for part in find_parts(run) if stage in (None, part.stage)]
    if not parts:
        raise ValueError(f"stage={stage!r}: nothing of it is recorded in {str(run)!r}")
    judge = _make_grader(grader, settings or {})
    result = Regraded(name_of(grader))
    answers = _Answers(env, env_config or {})
    for part in parts:
        for row in part.rows(_COLUMNS):
            reply, answer = _last_reply(row), answers.of(part, row)
            grade = judge(reply, answer)
            before, after = _verdict_of(row), str(grade.verdict)
            result.counts[before, after] += 1
            if before != after:
                place = (part.stage, part.iteration, row["seed"], row["member"])
                result.changes.append(Change(*place, before, after, grade.extracted, answer, reply))
    return result


def _make_grader(grader: Any, settings: Mapping[str, Any]) -> Callable[[str, str], Any]:
    if isinstance(grader, str) and ":" in grader:
        try:
            grader = imported(grader)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"grader={grader!r}: cannot be imported: {error}") from error
    try:
        return plugins.make_grader(grader, **settings)
    except TypeError as error:
        raise ValueError(f"grader={name_of(grader)!r}: {error}") from error


class _Answers:
    """The right answers of recorded problems; an environment is made once."""

    def __init__(self, env: str | None, env_config: Mapping[str, Any]) -> None:
        self._env, self._env_config = env, env_config
        self._made: dict[str, Any] = {}

    def of(self, part: Part, row: Mapping[str, Any]) -> str:
        """The answer to a recorded episode's problem.

        Raises:
            ValueError: If it is not known.
        """
        env = self._env or part.about.get("env")
        problem = None
        if env is not None:
            problem = self._problem(env, {**part.about.get("env_config", {}), **self._env_config})
        if problem is None:
            if (recorded := _recorded_answer(row)) is not None:
                return recorded
            raise ValueError(
                f"env={env or part.about.get('env_name')!r}: must be the id of an environment with "
                "problem(seed), as a SingleTurnEnv of sfpo_envs has, or have the right answer "
                "under 'answer' in its final infos; another id can be given"
            )
        prompt, answer = problem(row["seed"])
        shown = [m["content"] for m in row["messages"] if m["turn"] < 0]
        if not any(text in said for text in _last_words(prompt) for said in shown):
            raise ValueError(
                f"env_config={self._env_config!r}: must be such that problem {row['seed']} is the "
                f"one that was recorded, {shown[0][:80]!r}, and not {str(prompt)[:80]!r}"
            )
        return str(answer)

    def _problem(self, env: str, env_config: dict[str, Any]) -> Callable[[int], Any] | None:
        key = json.dumps([env, env_config], sort_keys=True, default=repr)
        if key not in self._made:
            try:
                made = make_text_env(env, env_config)
            except Exception as error:
                raise ValueError(f"env={env!r}: could not be made: {described(error)}") from error
            self._made[key] = getattr(made.unwrapped, "problem", None)
        return self._made[key]


def _last_words(prompt: Any) -> Iterator[str]:
    """What a problem says last: the text itself, or its last message."""
    if isinstance(prompt, str):
        yield prompt
    elif prompt:
        yield prompt[-1]["content"]


def _recorded_answer(row: Mapping[str, Any]) -> str | None:
    answer = json.loads(row["info"] or "{}").get("answer")
    return None if answer is None else str(answer)


def _last_reply(row: Mapping[str, Any]) -> str:
    replies = [message["content"] for message in row["messages"] if message["turn"] >= 0]
    return replies[-1] if replies else ""


def _verdict_of(row: Mapping[str, Any]) -> str:
    if row["verdict"] is not None:
        return str(row["verdict"])
    success = row["is_success"]
    return NONE if success is None else CORRECT if success >= 0.5 else WRONG
