"""Gradings a second, by the grader and by math-verify itself, in turn."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from statistics import median
from typing import Any

from math_verify import parse, verify
from sfpo_envs import Verdict, make_grader

from benchmarks.common import bootstrap_interval
from benchmarks.graders.replies import Problem, problems

Judge = Callable[[str, str], bool]


def ours() -> Judge:
    """The math grader as training uses it, without its cache."""
    grade = make_grader("math", cache_size=0)
    return lambda reply, gold: grade(reply, gold).verdict is Verdict.CORRECT


def direct() -> Judge:
    """math-verify called in this process, with its defaults."""
    return lambda reply, gold: bool(verify(parse(rf"\boxed{{{gold}}}"), parse(reply)))


def compare_rates(kind: str, samples: int, block: int) -> dict[str, Any]:
    """Times both on the same unseen problems, block after block, first the one then the other.

    Args:
        kind: Of problem.
        samples: Number of blocks.
        block: Problems in each.

    Returns:
        Medians of gradings a second and of the blocks' ratios, each with its 95% interval, and the
        share of verdicts that are right.
    """
    stream = problems(kind, seed=0)
    judges = {"ours": ours(), "direct": direct()}
    for judge in judges.values():
        _grade(judge, list(islice(stream, 3)))  # workers start, modules are imported
    rates: dict[str, list[float]] = {name: [] for name in judges}
    num_right = dict.fromkeys(judges, 0)
    for sample in range(samples):
        batch = list(islice(stream, block))
        for name in list(judges) if sample % 2 == 0 else list(judges)[::-1]:
            started = time.perf_counter()
            num_right[name] += _grade(judges[name], batch)
            rates[name].append(block / (time.perf_counter() - started))
    ratios = [mine / other for mine, other in zip(rates["ours"], rates["direct"], strict=True)]
    return {
        "samples": samples,
        "block": block,
        **{f"{name}_per_s": _summary(values) for name, values in rates.items()},
        "ratio": _summary(ratios),
        **{f"{name}_right": num / (samples * block) for name, num in num_right.items()},
    }


def _grade(judge: Judge, batch: Sequence[Problem]) -> int:
    """Grades all and counts the right verdicts."""
    return sum(judge(one.reply, one.gold) is one.is_right for one in batch)


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"median": median(values), "interval": list(bootstrap_interval(values))}
