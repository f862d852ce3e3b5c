"""What is evaluated on, by name: an environment and its options, which are data, prompt, grader."""

import importlib
import re
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sfpo_rllib.core.checks import first_line, nearest
from sfpo_rllib.env_runners.text_envs import make_text_env

MATH = "sfpo_envs:sfpo/MathReasoning-v0"
MANY = 1_000_000  # problems of an environment that has no end of them have more

_ENV_ID = re.compile(r"([\w.]+:)?([\w-]+/)?[\w.-]+-v\d+")
_PROBLEM_FILES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True)
class Task:
    """Something to evaluate on.

    Attributes:
        name: In tables, files and on the command line.
        env: As in `config.environment()`: a gymnasium id, a class, a function.
        env_config: Its options: of the benchmarks data, prompt template and grader.
        num_problems: How many there are; None: what the environment says.
    """

    name: str
    env: Any
    env_config: Mapping[str, Any] = field(default_factory=dict)
    num_problems: int | None = None

    def with_options(self, options: Mapping[str, Any]) -> "Task":
        """The same with other options."""
        return replace(self, env_config={**self.env_config, **options})

    def count(self) -> int | None:
        """How many problems there are, after the environment has been made once.

        Returns:
            None if it has no end of them, or does not say.

        Raises:
            ValueError: If the environment cannot be made; the message says what to give.
        """
        try:
            env = make_text_env(self.env, dict(self.env_config))
        except Exception as error:  # of any kind, with users' code and networks behind it
            raise ValueError(
                f"tasks={self.name}: cannot be made: {first_line(error)}{self._what_to_give(error)}"
            ) from error
        with closing(env):
            said = getattr(env.unwrapped, "num_problems", None)
        num = said if self.num_problems is None else self.num_problems
        return int(num) if isinstance(num, int) and num <= MANY else None

    def _what_to_give(self, error: Exception) -> str:
        """Where its problems may be instead, if it is them that are missing."""
        if self.name not in TASKS or not str(error).startswith(("dataset", "data_dir")):
            return ""
        return (
            f'; give its problems, a JSONL file with "problem" and "answer" a line, with --data '
            f"{self.name}=FILE, or with --data FOLDER a folder that has the files of several tasks"
        )


def math_task(name: str, dataset: str | None = None, **options: Any) -> Task:
    """A task of math problems.

    Args:
        name: Of the task.
        dataset: As `sfpo/MathReasoning-v0` takes it; by default the evaluation set of that name.
        options: Others of that environment's.
    """
    defaults = {"dataset": dataset or name, "prompt_template": "sfpo", "grader": "math"}
    return Task(name, MATH, {**defaults, **options})


# The tasks that have a name: data, prompt template and grader. Add yours.
TASKS: dict[str, Task] = {
    name: math_task(name)
    for name in ("gsm8k", "math500", "aime24", "aime25", "amc", "minerva", "olympiadbench")
}


def find_tasks(
    given: Iterable[str],
    *,
    data: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> list[Task]:
    """Tasks by what a user calls them.

    Args:
        given: Each a key of `TASKS`, a gymnasium id, "module:name" of a task of one's own, or the
            path of a file with problems.
        data: Where problems are: each `"task=file"`, or a folder with files of several tasks.
        options: Of the environments, over those of the table.

    Raises:
        ValueError: If one is none of these, or there is no such file. All that is wrong is listed.
    """
    tasks: dict[str, Task] = {}
    problems = []
    for name in given:
        try:
            task = find_task(name).with_options(options or {})
            tasks[task.name] = task
        except ValueError as error:
            problems.append(str(error))
    if not tasks and not problems:
        problems.append("tasks='': must be at least one")
    for where in data:
        try:
            tasks = _with_data(tasks, where)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return list(tasks.values())


def find_task(name: str) -> Task:
    """The task of a name, or one that is made of it.

    Raises:
        ValueError: If it is none of these.
    """
    if name in TASKS:
        return TASKS[name]
    if name.endswith(_PROBLEM_FILES):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(f"tasks={name}: there is no such file")
        return math_task(path.name.partition(".")[0], str(path.resolve()))
    if _ENV_ID.fullmatch(name):
        return Task(name, name)
    if ":" in name:
        return _of_module(*name.split(":", 1))
    raise ValueError(
        f"tasks={name}: must be one of {', '.join(TASKS)}, a gymnasium id (my_module:my/Task-v0), "
        f"a task of a module (my_module:name), or a .jsonl file of problems{nearest(name, TASKS)}"
    )


def _of_module(module: str, name: str) -> Task:
    """A task that a module has, or that it adds to the table when it is imported."""
    try:
        there = importlib.import_module(module)
    except Exception as error:  # a user's code
        raise ValueError(f"tasks={module}:{name}: cannot be imported: {error!r}") from error
    task = TASKS.get(name, getattr(there, name, None))
    if not isinstance(task, Task):
        raise ValueError(
            f"tasks={module}:{name}: must be a Task of {module}, or one that it adds to TASKS"
        )
    return task


def _with_data(tasks: Mapping[str, Task], where: str) -> dict[str, Task]:
    """The tasks with problems from a place."""
    name, is_of_one, place = where.rpartition("=")
    path = Path(place).expanduser()
    if not path.exists():
        raise ValueError(f"data={where}: there is no file or folder {str(path)!r}")
    path = path.resolve()
    if is_of_one:
        if name not in tasks:
            raise ValueError(f"data={where}: must name one of the tasks, {', '.join(tasks)}")
        return {**tasks, name: tasks[name].with_options({"dataset": str(path)})}
    if not path.is_dir():
        raise ValueError(f"data={where}: must be a folder, or TASK=FILE for the file of a task")
    return {
        key: task.with_options({"data_dir": str(path)}) if task.env == MATH else task
        for key, task in tasks.items()
    }


def gold_of(env: Any, seed: int) -> str | None:
    """The right answer to a problem, of an environment that says it as those of `sfpo_envs` do."""
    with suppress(Exception):
        return str(env.unwrapped.problem(seed).answer)
    return None
