"""Two evaluations, problem by problem."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sfpo_rllib.evals.replies import RECORD, REPLIES, Reply, read_replies
from sfpo_rllib.statistics import Difference, by_problem

Problems = dict[int, list[Reply]]


def is_evaluation(folder: Path) -> bool:
    """Whether it is the folder of one model's evaluation."""
    return (folder / REPLIES).is_file()


def compare_evaluations(first: Path, second: Path) -> dict[str, Any]:
    """The second evaluation against the first, on the problems that are in both.

    Args:
        first: A folder of `evaluate`.
        second: Another one.

    Returns:
        `tasks`, by name: the accuracy of both on those problems (the mean over a problem's
        replies, or of rewards where there is no `is_success`), the difference, on how many problems
        which is better; `mean` over the tasks; `differing_settings`.

    Raises:
        ValueError: If they have no problem in common, or problems that are not the same ones.
    """
    sides = [_problems(folder) for folder in (first, second)]
    tasks: dict[str, Any] = {}
    differences: list[list[float]] = []
    for task in [name for name in sides[0] if name in sides[1]]:
        a, b = sides[0][task], sides[1][task]
        both = sorted(a.keys() & b.keys())
        if not both:
            continue
        values = [_values(task, a[p], b[p]) for p in both]
        differences.append([y - x for x, y in values])
        tasks[task] = {
            "first": fmean(x for x, _ in values),
            "second": fmean(y for _, y in values),
            "difference": by_problem(differences[-1:]).as_json(),
            "num_better": [sum(x > y for x, y in values), sum(y > x for x, y in values)],
            "num_equal": sum(x == y for x, y in values),
            "num_unpaired": len(a) + len(b) - 2 * len(both),
        }
    if not tasks:
        names = [", ".join(side) or "nothing" for side in sides]
        raise ValueError(
            f"no problem is in both evaluations: {first} has {names[0]}, {second} has {names[1]}"
        )
    return {
        "tasks": tasks,
        "mean": _mean(list(tasks.values()), by_problem(differences)),
        "differing_settings": _differing_settings(first, second),
    }


def _problems(folder: Path) -> dict[str, Problems]:
    result: dict[str, Problems] = {}
    for reply in read_replies(folder):
        result.setdefault(reply.task, {}).setdefault(reply.problem, []).append(reply)
    return result


def _values(task: str, first: Sequence[Reply], second: Sequence[Reply]) -> tuple[float, float]:
    """The values of a problem, which must be the same one."""
    a, b = first[0], second[0]
    is_same = a.gold == b.gold if None not in (a.gold, b.gold) else a.prompt == b.prompt
    if not is_same:
        raise ValueError(
            f"problem {a.problem} of {task} is not the same one in both: they were evaluated on "
            "different data"
        )
    has_success = all(reply.success is not None for reply in (*first, *second))
    values = [fmean(_value(reply, has_success) for reply in replies) for replies in (first, second)]
    return values[0], values[1]


def _value(reply: Reply, has_success: bool) -> float:
    return float(reply.success) if has_success and reply.success is not None else reply.reward


def _mean(tasks: Sequence[dict[str, Any]], difference: Difference) -> dict[str, Any]:
    return {
        "first": fmean(task["first"] for task in tasks),
        "second": fmean(task["second"] for task in tasks),
        "difference": difference.as_json(),
    }


def _differing_settings(first: Path, second: Path) -> dict[str, list[Any]]:
    """Settings of the two that differ: these may be the reason."""
    sides = []
    for folder in (first, second):
        try:
            sides.append(json.loads((folder / RECORD).read_text())["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / RECORD}: cannot be read ({error!r})") from error
    a, b = sides
    return {k: [a.get(k), b.get(k)] for k in sorted({*a, *b}) if a.get(k) != b.get(k)}
