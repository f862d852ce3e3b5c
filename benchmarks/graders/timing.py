"""Gradings a second, by the grader and by math-verify itself, in turn."""

import time
from collections.abc import Callable, Sequence
from itertools import islice
from statistics import median
from typing import Any

from math_verify import parse, verify
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders.pool import idle_workers

from benchmarks.graders.replies import Problem, problems
from sfpo_rllib.statistics import bootstrap_interval

Judge = Callable[[str, str], bool]
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    # What other processes take of a busy core does not count here.
    "cpu": lambda: time.process_time() + sum(map(_cpu_s, idle_workers())),
}


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
        For each clock, medians of gradings a second and of the blocks' ratios, with their 95%
        intervals; and the share of verdicts that are right.
    """
    stream = problems(kind, seed=0)
    judges = {"ours": ours(), "direct": direct()}
    for judge in judges.values():
        _grade(judge, list(islice(stream, 3)))  # workers start, modules are imported
    rates: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name in judges} for clock in CLOCKS
    }
    num_right = dict.fromkeys(judges, 0)
    for sample in range(samples):
        batch = list(islice(stream, block))
        for name in list(judges) if sample % 2 == 0 else list(judges)[::-1]:
            started = {clock: read() for clock, read in CLOCKS.items()}
            num_right[name] += _grade(judges[name], batch)
            for clock, read in CLOCKS.items():
                rates[clock][name].append(block / (read() - started[clock]))
    return {
        "samples": samples,
        "block": block,
        **{clock: _summaries(**by_judge) for clock, by_judge in rates.items()},
        **{f"{name}_right": num / (samples * block) for name, num in num_right.items()},
    }


def _grade(judge: Judge, batch: Sequence[Problem]) -> int:
    """Grades all and counts the right verdicts."""
    return sum(judge(one.reply, one.gold) is one.is_right for one in batch)


def _summaries(ours: Sequence[float], direct: Sequence[float]) -> dict[str, Any]:
    ratios = [mine / other for mine, other in zip(ours, direct, strict=True)]
    return {
        "ours_per_s": _summary(ours),
        "direct_per_s": _summary(direct),
        "ratio": _summary(ratios),
    }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"value": median(values), "interval": list(bootstrap_interval(values))}


def _cpu_s(pid: int) -> float:
    """CPU time that another process has used; Linux makes the number of its clock like this."""
    return time.clock_gettime((~pid << 3) | 2)
