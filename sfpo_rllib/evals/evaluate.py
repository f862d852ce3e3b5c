"""Evaluating a model on tasks, in a folder that goes on after a kill."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfpo_rllib.core.checks import raise_problems
from sfpo_rllib.env_runners.text_envs import make_text_env
from sfpo_rllib.evals.models import Evaluated
from sfpo_rllib.evals.replies import Reply, ReplyStore
from sfpo_rllib.evals.sampler import Sampler, engine_problems
from sfpo_rllib.evals.scores import Scores, mean_over_tasks, score
from sfpo_rllib.evals.settings import EvalSettings
from sfpo_rllib.evals.tasks import Task
from sfpo_rllib.local_paths import local_path
from sfpo_rllib.reporting import write_json
from sfpo_rllib.run_loop.folder import iteration_of
from sfpo_rllib.run_loop.identity import plain
from sfpo_rllib.statistics import Estimate

RESULTS = "results.json"


class Watcher:
    """Is told how an evaluation gets on; as it is it does nothing."""

    def loading(self, model: Evaluated) -> None:
        """An engine is about to load a model."""

    def begins(self, model: Evaluated, task: Task, *, done: int, total: int) -> None:
        """A task begins, of whose replies some are there."""

    def replied(self, reply: Reply) -> None:
        """A reply was kept."""

    def ends(self, task: Task) -> None:
        """A task is over."""


@dataclass(frozen=True)
class Evaluation:
    """What came of it for one model.

    Attributes:
        model: Which.
        settings: How replies were sampled.
        scores: By task.
        mean: Over tasks, of the numbers that all of them have.
        folder: Has the replies, and this as results.json.
        num_sampled: Replies that were sampled now; the others were there.
        reported: The accuracy that the run itself had measured of the checkpoint, if the task is
            the run's own evaluation and it did.
    """

    model: Evaluated
    settings: EvalSettings
    scores: dict[str, Scores]
    mean: dict[str, Estimate]
    folder: Path
    num_sampled: int
    reported: float | None = None

    @property
    def average(self) -> float | None:
        """What checkpoints are ranked by: the mean over tasks of avg@k, or of the reward."""
        for name in (f"avg@{self.settings.samples}", f"reward@{self.settings.samples}"):
            if name in self.mean:
                return self.mean[name].value
        return None

    def as_json(self) -> dict[str, Any]:
        """For a file, and for programs."""
        return {
            "model": self.model.name,
            "folder": str(self.folder),
            "settings": {
                "samples": self.settings.samples,
                "limit": self.settings.limit,
                **self.settings.identity(),
            },
            "tasks": {name: scores.as_json() for name, scores in self.scores.items()},
            "mean": {name: number.as_json() for name, number in self.mean.items()},
            "num_sampled": self.num_sampled,
            "reported": self.reported,
        }


def default_engine() -> str:
    """The engine of those that are given none: vLLM, where it is installed."""
    return "vllm" if importlib.util.find_spec("vllm") is not None else "transformers"


def evaluate(
    models: Sequence[Evaluated],
    tasks: Sequence[Task] | None = None,
    *,
    output: str | Path,
    watcher: Watcher | None = None,
    **settings: Any,
) -> list[Evaluation]:
    """Samples replies to the problems of tasks, grades them, and keeps each as it comes.

    Called again with the same arguments, whatever ended it, it samples and grades what is missing,
    and the replies are those that it would have had. More problems or samples may be asked for.

    Args:
        models: See `find_models`.
        tasks: See `find_tasks`. None: what the run of a checkpoint evaluates itself on, with its
            settings.
        output: A folder of its own: replies.jsonl, evaluation.json and results.json; of several
            models each has one in it, and their results are together too.
        watcher: Is told how it gets on.
        settings: See `EvalSettings`. The engine is vLLM where that is installed, and the dtype that
            of the run, or bfloat16 on a GPU.

    Returns:
        One a model.

    Raises:
        ValueError: If an argument is wrong, before anything starts.
        CheckpointError: If a checkpoint is damaged.
        OSError: If replies cannot be written.
    """
    watcher = watcher or Watcher()
    folder, several = local_path("output", output), len(models) > 1
    plans = [_plan(model, tasks, settings) for model in models]
    for _, _, own in plans:
        raise_problems(engine_problems(own))
    sizes = [[_num_problems(task, own.limit) for task in chosen] for _, chosen, own in plans]
    results = []
    with closing(Sampler()) as sampler:
        for (model, chosen, own), numbers in zip(plans, sizes, strict=True):
            one = _One(model, chosen, own, numbers, is_own=tasks is None)
            where = folder / model.name.replace("/", "_") if several else folder
            results.append(one.run(where, sampler, watcher))
    if several:
        best = best_of(results)
        content = {"models": [each.as_json() for each in results]}
        write_json(folder / RESULTS, {**content, "best": best and best.model.name})
    return results


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The one with the highest mean; of equal ones the first. None if no task has a number."""
    ranked = [each for each in evaluations if each.average is not None]
    return max(ranked, key=lambda each: each.average or 0.0) if ranked else None


def _plan(
    model: Evaluated, tasks: Sequence[Task] | None, given: Mapping[str, Any]
) -> tuple[Evaluated, Sequence[Task], EvalSettings]:
    """What a model is evaluated on, and how: as the user says, else as its run did."""
    defaults: dict[str, Any] = {"engine": default_engine(), "dtype": model.dtype}
    if tasks is None:
        if model.notes is None:
            raise ValueError(
                f"tasks=None: must say what to evaluate {model.name} on; only of a run it is known"
            )
        task, own = model.notes.own_evaluation()
        said, sampling = given.get("sampling", {}), own.pop("sampling")
        if said.get("temperature", sampling["temperature"]) == 0:  # then these change no reply
            own["samples"] = 1
            sampling = {k: v for k, v in sampling.items() if k not in ("top_p", "top_k")}
        tasks, defaults = [task], defaults | own
        given = {**given, "sampling": {**sampling, **said}}
    elif model.notes is not None:
        defaults |= model.notes.prompting()
    return model, tasks, EvalSettings.of(defaults | dict(given))


def _num_problems(task: Task, limit: int | None) -> int:
    num = task.count()
    if num is None and limit is None:
        raise ValueError(
            f"limit=None: must be a number of problems with {task.name}, which has no end of them"
        )
    return min(n for n in (num, limit) if n is not None)


class _One:
    """The evaluation of one model."""

    def __init__(
        self,
        model: Evaluated,
        tasks: Sequence[Task],
        settings: EvalSettings,
        num_problems: Sequence[int],
        *,
        is_own: bool,
    ) -> None:
        self._model, self._settings, self._is_own = model, settings, is_own
        self._tasks = {t.name: (t, num) for t, num in zip(tasks, num_problems, strict=True)}

    def run(self, folder: Path, sampler: Sampler, watcher: Watcher) -> Evaluation:
        """Samples what is missing, and counts."""
        with ReplyStore(folder, self._record()) as store:

            def keep(reply: Reply) -> None:
                store.add(reply)
                watcher.replied(reply)

            num_before = len(store.replies)
            dropped: dict[str, dict[int, str]] = {}
            is_loaded = False
            for task, num in self._tasks.values():
                missing = self._missing(store, task, num)
                if missing and not is_loaded:
                    watcher.loading(self._model)
                    sampler.load(self._model, self._settings)
                    is_loaded = True
                total = num * self._settings.samples
                done = total - sum(map(len, missing.values()))
                watcher.begins(self._model, task, done=done, total=total)
                if missing:
                    dropped[task.name] = sampler.sample(task, self._settings, missing, keep)
                watcher.ends(task)
            result = self._result(store, dropped, len(store.replies) - num_before)
            write_json(store.folder / RESULTS, {**result.as_json(), "dropped": _reasons(dropped)})
        return result

    def _record(self) -> dict[str, Any]:
        return {
            "model": self._model.identity(),
            "settings": self._settings.identity(),
            "tasks": {
                name: {"env": plain(task.env), "env_config": plain(task.env_config)}
                for name, (task, _) in self._tasks.items()
            },
        }

    def _missing(self, store: ReplyStore, task: Task, num: int) -> dict[int, list[int]]:
        """By problem, the replies to it that are not there."""
        there = store.replies.keys()
        samples = range(self._settings.samples)
        missing = {p: [s for s in samples if (task.name, p, s) not in there] for p in range(num)}
        return {problem: members for problem, members in missing.items() if members}

    def _result(
        self, store: ReplyStore, dropped: dict[str, dict[int, str]], num_sampled: int
    ) -> Evaluation:
        scores = {
            name: score(
                store.of_task(name, num, self._settings.samples),
                self._settings.samples,
                same=_same(task),
                num_dropped=len(dropped.get(name, {})),
                seed=place,
            )
            for place, (name, (task, num)) in enumerate(self._tasks.items())
        }
        reported = None
        if self._is_own and self._model.notes and self._model.checkpoint:
            reported = self._model.notes.reported(iteration_of(self._model.checkpoint))
        return Evaluation(
            self._model,
            self._settings,
            scores,
            mean_over_tasks(scores),
            store.folder,
            num_sampled,
            reported,
        )


def _same(task: Task) -> Callable[[str, str], bool]:
    """Whether two answers are the same, by the task's grader if its environment can say so."""
    known: dict[str, Any] = {}

    def same(answer: str, other: str) -> bool:
        if "env" not in known:  # only where a vote depends on it
            known["env"] = make_text_env(task.env, dict(task.env_config)).unwrapped
        asked = getattr(known["env"], "equivalent", None)
        if asked is None:
            return answer.split() == other.split()
        return bool(asked(answer, other))

    return same


def _reasons(dropped: dict[str, dict[int, str]]) -> dict[str, dict[str, str]]:
    return {task: {str(p): r for p, r in found.items()} for task, found in dropped.items() if found}
