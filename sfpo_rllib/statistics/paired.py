"""Two of the same things: their difference, with an interval and a p-value."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from sfpo_rllib.statistics.intervals import LEVEL, bootstrap_means, percentile_interval

NUM_FLIPS = 10_000
_CHUNK = 1000


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences.

    Attributes:
        value: Of the second less the first.
        low: Lower bound of the 95% interval, None if there are too few pairs for one.
        high: Upper bound.
        p_value: Probability of so large a mean, either way, if there were no difference.
        num_pairs: How many there are.
    """

    value: float
    low: float | None
    high: float | None
    p_value: float | None
    num_pairs: int

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        numbers = asdict(self)
        return {"interval": [numbers.pop("low"), numbers.pop("high")], **numbers}


def by_problem(groups: Sequence[Sequence[float]]) -> Difference:
    """The mean over groups of the mean difference within each: bootstrap and sign flips.

    Args:
        groups: Differences, a problem each; of several tasks a group each, all of one weight.

    Returns:
        The interval is the bootstrap's over problems, within each group; the p-value that of
        `NUM_FLIPS` random flips of the signs, as without a difference both are as likely.
    """
    arrays = [np.asarray(group, dtype=float) for group in groups]
    draws = np.mean(
        [bootstrap_means(a[:, None], seed=i)[:, 0] for i, a in enumerate(arrays)], axis=0
    )
    value = float(np.mean([a.mean() for a in arrays]))
    low, high = percentile_interval(draws)
    p_value = _sign_flip_p(arrays, value)
    return Difference(value, low, high, p_value, sum(map(len, arrays)))


def by_seed(differences: Sequence[float]) -> Difference:
    """The mean difference of a few pairs of runs: the paired t-test and its interval.

    Args:
        differences: One a seed.
    """
    data = np.asarray(differences, dtype=float)
    value, num = float(data.mean()), len(data)
    if num < 2:
        return Difference(value, None, None, None, num)
    if np.ptp(data) == 0:  # there is nothing to tell how far it could be off
        return Difference(value, None, None, None if value else 1.0, num)
    result = stats.ttest_1samp(data, 0.0)
    interval = result.confidence_interval(LEVEL)
    return Difference(value, float(interval.low), float(interval.high), float(result.pvalue), num)


def _sign_flip_p(arrays: Sequence[np.ndarray], value: float) -> float:
    rng = np.random.default_rng(0)
    weighted = np.concatenate([a / (len(a) * len(arrays)) for a in arrays])
    weighted = weighted[weighted != 0]  # whose signs make no difference
    if not len(weighted):
        return 1.0
    least = abs(value) * (1 - 1e-9)  # flips that come to the same, but for rounding
    as_large = 0
    for _ in range(NUM_FLIPS // _CHUNK):
        signs = rng.integers(0, 2, size=(_CHUNK, len(weighted)), dtype=np.int8) * 2.0 - 1.0
        as_large += int((np.abs(signs @ weighted) >= least).sum())
    return (as_large + 1) / (NUM_FLIPS + 1)
