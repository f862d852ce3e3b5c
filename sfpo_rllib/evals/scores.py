"""From the replies to a task to its numbers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from sfpo_rllib.evals.replies import Reply
from sfpo_rllib.statistics import (
    Estimate,
    majority_share,
    mean_estimates,
    pass_at_k,
    percentile_interval,
    powers_of_two,
)

RIGHT = 0.5  # of `is_success`, as graders take it


@dataclass(frozen=True)
class Scores:
    """What replies to a task come to.

    Attributes:
        numbers: avg@k, pass@k and maj@k by name, means over problems; of an environment that gives
            no `is_success` reward@k alone.
        counts: Problems, replies, what was dropped, verdicts, lengths.
        draws: By number, of shape (2, N): see `mean_estimates`.
    """

    numbers: dict[str, Estimate]
    counts: dict[str, Any]
    draws: dict[str, np.ndarray] = field(repr=False, default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {name: number.as_json() for name, number in self.numbers.items()} | self.counts


def score(
    replies: Sequence[Reply],
    samples: int,
    *,
    same: Callable[[str, str], bool],
    num_dropped: int = 0,
    seed: int = 0,
) -> Scores:
    """The numbers of a task.

    Args:
        replies: To it.
        samples: k. Problems with fewer replies do not count, but in `num_incomplete`.
        same: Whether two answers are the same one, for the vote.
        num_dropped: Problems whose environment or prompt failed.
        seed: Of the bootstrap; another for each task, as their problems are independent.
    """
    groups: dict[int, list[Reply]] = {}
    for reply in replies:
        groups.setdefault(reply.problem, []).append(reply)
    whole = [group for group in groups.values() if len(group) == samples]
    counted = [reply for group in whole for reply in group]
    counts: dict[str, Any] = {
        "num_problems": len(whole),
        "num_replies": len(counted),
        "num_dropped": num_dropped,
        "num_incomplete": len(groups) - len(whole),
    }
    if not whole:
        return Scores({}, counts)
    counts |= {
        "reward_mean": fmean(reply.reward for reply in counted),
        "completion_length_mean": fmean(reply.num_tokens for reply in counted),
        "truncated_fraction": fmean(reply.truncated for reply in counted),
    }
    if verdicts := Counter(reply.verdict for reply in counted if reply.verdict is not None):
        counts["verdicts"] = dict(verdicts.most_common())
    columns = _columns(whole, samples, same)
    estimates, draws = mean_estimates(np.array(list(columns.values())).T, seed=seed)
    return Scores(
        dict(zip(columns, estimates, strict=True)),
        counts,
        dict(zip(columns, np.moveaxis(draws, -1, 0), strict=True)),
    )


def _columns(
    groups: Sequence[Sequence[Reply]], samples: int, same: Callable[[str, str], bool]
) -> dict[str, list[float]]:
    """By the name of a number, its value of each problem."""
    if any(reply.success is None for group in groups for reply in group):
        return {f"reward@{samples}": [fmean(reply.reward for reply in group) for group in groups]}
    right = [[_success(reply) >= RIGHT for reply in group] for group in groups]
    columns = {f"avg@{samples}": [fmean(map(_success, group)) for group in groups]}
    for k in powers_of_two(samples):
        columns[f"pass@{k}"] = [pass_at_k(sum(marks), samples, k) for marks in right]
    if any(reply.answer is not None for group in groups for reply in group):
        columns[f"maj@{samples}"] = [
            majority_share([reply.answer for reply in group], marks, same)
            for group, marks in zip(groups, right, strict=True)
        ]
    return columns


def _success(reply: Reply) -> float:
    assert reply.success is not None
    return reply.success


def mean_over_tasks(scores: Mapping[str, Scores]) -> dict[str, Estimate]:
    """Of the numbers that all tasks have, the means over tasks, each task of one weight.

    The interval is the bootstrap's over problems, of each task by itself; a task whose problems are
    all solved, or none, adds to it as far as its own interval reaches.
    """
    all_scores = list(scores.values())
    names = [n for n in all_scores[0].numbers if all(n in s.numbers for s in all_scores)]
    result = {}
    for name in names:
        lower, upper = np.mean([s.draws[name] for s in all_scores], axis=0)
        low, high = percentile_interval(lower)[0], percentile_interval(upper)[1]
        value = fmean(s.numbers[name].value for s in all_scores)
        result[name] = Estimate(value, low, high)
    return result
