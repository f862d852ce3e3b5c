"""From curves to numbers. Pure functions of finished runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.pool import Result
from sfpo_rllib.statistics import bootstrap_interval, curves, smoothed

COSTS = ("rollouts", "wall_s", "cpu_s", "optimizer_steps")
COLLAPSED = 0.5  # a run that ends below this share of its best accuracy


def best_accuracy(result: Result) -> float:
    """The highest smoothed accuracy of a run."""
    return float(smoothed(result["curve"]["accuracy"]).max())


def cost_to_reach(result: Result, target: float, cost: str) -> float:
    """What a run spends until its smoothed accuracy reaches the target.

    Args:
        result: The run.
        target: An accuracy.
        cost: One of `COSTS`.

    Returns:
        Interpolated between evaluations; the whole budget if it never gets there.
    """
    spent = result["curve"][cost]
    reached = curves.cost_to_reach(smoothed(result["curve"]["accuracy"]), spent, target)
    return float(spent[-1]) if reached is None else reached


def worst_drop(result: Result) -> float:
    """How far the smoothed accuracy ever falls below its best so far."""
    accuracy = smoothed(result["curve"]["accuracy"])
    return float((np.maximum.accumulate(accuracy) - accuracy).max())


def collapsed(result: Result) -> bool:
    """Whether a run ends far below its best, or below its start."""
    accuracy = smoothed(result["curve"]["accuracy"])
    return bool(accuracy[-1] < max(COLLAPSED * accuracy.max(), accuracy[0]))


def modelled_s(sample_s: float, learn_s: float, max_staleness: int) -> float:
    """Seconds a batch takes: the sum where sampling and learning take turns, else the longer."""
    return max(sample_s, learn_s) if max_staleness else sample_s + learn_s


def select(results: Iterable[Result], **run: Any) -> list[Result]:
    """The results of runs with these attributes, by seed."""
    found = [r for r in results if all(r["run"][name] == value for name, value in run.items())]
    return sorted(found, key=lambda r: r["run"]["seed"])


def best_rate(results: Sequence[Result], *, task: str, variant: str) -> float:
    """The learning rate with the highest mean best accuracy."""
    rates = sorted({r["run"]["lr"] for r in select(results, task=task, variant=variant)})
    means = [
        np.mean([best_accuracy(r) for r in select(results, task=task, variant=variant, lr=lr)])
        for lr in rates
    ]
    return rates[int(np.argmax(means))]


def strongest(results: Sequence[Result], rates: Mapping[str, float]) -> str:
    """The variant of `rates` with the highest mean best accuracy, each at its own rate."""

    def accuracy(name: str) -> float:
        runs = select(results, variant=name, lr=rates[name])
        return float(np.mean([best_accuracy(run) for run in runs]))

    return max(rates, key=accuracy)


def compare(runs: Sequence[Result], baseline: Sequence[Result]) -> dict[str, Any]:
    """A variant against the baseline, seed by seed.

    The target of a seed is the baseline's best accuracy with it. A run that never gets there
    counts as its whole budget, and so does the ratio's numerator, what the baseline spent to get
    there. One that is there from the start counts as its first evaluation after it.

    Args:
        runs: The variant's, one a seed.
        baseline: The baseline's, with the same seeds.

    Returns:
        For each cost its median ratio (baseline over variant: 2 means half the cost) with a 95%
        interval; `num_reached`, seeds that got there; `accuracy_gain`, mean difference of best
        accuracies with interval and p-value (paired t-test).
    """
    pairs = list(zip(runs, baseline, strict=True))
    if any(run["run"]["seed"] != base["run"]["seed"] for run, base in pairs):
        raise ValueError("runs and baseline must have the same seeds")
    targets = [best_accuracy(base) for base in baseline]
    summary: dict[str, Any] = {}
    for cost in COSTS:
        ratios = [
            _least_cost(base, target, cost) / _least_cost(run, target, cost)
            for (run, base), target in zip(pairs, targets, strict=True)
        ]
        summary[f"{cost}_ratio"] = with_interval(ratios, np.median)
    bests = [best_accuracy(run) for run in runs]
    gains = np.subtract(bests, targets)
    summary["num_reached"] = int((gains >= 0).sum())
    summary["accuracy_gain"] = with_interval(gains, np.mean)
    if len(gains) > 1 and np.ptp(gains) > 0:
        summary["accuracy_gain"]["p_value"] = float(stats.ttest_rel(bests, targets).pvalue)
    return summary


def _least_cost(result: Result, target: float, cost: str) -> float:
    """`cost_to_reach`, never 0."""
    return cost_to_reach(result, target, cost) or float(result["curve"][cost][1])


def describe(runs: Sequence[Result], target: float) -> dict[str, Any]:
    """One variant at one rate on one task: accuracy, costs to a common target, stability."""
    return {
        "num_seeds": len(runs),
        "best_accuracy": with_interval([best_accuracy(r) for r in runs], np.mean),
        "final_accuracy": with_interval(
            [float(smoothed(r["curve"]["accuracy"])[-1]) for r in runs], np.mean
        ),
        **{
            f"{cost}_to_target": with_interval([cost_to_reach(r, target, cost) for r in runs])
            for cost in COSTS
        },
        "num_reached_target": sum(best_accuracy(r) >= target for r in runs),
        "worst_drop": max(worst_drop(r) for r in runs),
        "num_collapsed": sum(map(collapsed, runs)),
        "wall_s": float(np.median([r["curve"]["wall_s"][-1] for r in runs])),
        "fired_at": [r["fired_at"] for r in runs],
    }


def with_interval(
    values: Sequence[float] | np.ndarray, statistic: Callable[[Any], Any] = np.median
) -> dict[str, Any]:
    """A statistic of one value a seed, its 95% bootstrap interval, and the values."""
    low, high = bootstrap_interval(list(values), statistic)
    return {"value": float(statistic(values)), "interval": [low, high], "values": list(values)}
