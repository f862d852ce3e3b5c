"""How far a mean can be off: bootstrap intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
_TAIL = (1.0 - LEVEL) / 2.0  # on either side
NUM_RESAMPLES = 10_000
_CHUNK = 1000  # resamples at once: bounds the memory

Statistic = Callable[..., Any]  # of an array, and an axis to reduce


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {"value": self.value, "interval": [self.low, self.high]}


def bootstrap_interval(
    values: Sequence[float], statistic: Statistic = np.median
) -> tuple[float, float]:
    """95% percentile bootstrap interval of a statistic of independent values.

    Args:
        values: One a seed.
        statistic: A function of an array and an axis, as numpy's are.

    Returns:
        Lower and upper bound; NaN without values.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return math.nan, math.nan
    picks = np.random.default_rng(0).integers(len(data), size=(NUM_RESAMPLES, len(data)))
    return percentile_interval(statistic(data[picks], axis=1))


def bootstrap_means(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Means over rows that are drawn with replacement.

    Args:
        values: Shape (N, M): M numbers of each of N independent problems.
        seed: Of the draws.

    Returns:
        Shape (`NUM_RESAMPLES`, M). The M numbers of a problem are drawn together.
    """
    rng = np.random.default_rng(seed)
    num = len(values)
    shares = np.full(num, 1 / num)
    chunks = [rng.multinomial(num, shares, size=_CHUNK) for _ in range(NUM_RESAMPLES // _CHUNK)]
    return np.concatenate([counts @ values for counts in chunks]) / num


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle 95% of some draws: lower and upper bound."""
    low, high = np.quantile(draws, [_TAIL, 1.0 - _TAIL])
    return float(low), float(high)


def mean_estimates(values: np.ndarray, *, seed: int = 0) -> tuple[list[Estimate], np.ndarray]:
    """Means over problems, with bootstrap intervals.

    Resamples of a share that is 0, or 1, of every problem would all be the same, as if it were
    certain: its interval is Clopper and Pearson's for so many problems.

    Args:
        values: Shape (N, M): M shares of each of N problems.
        seed: Of the resamples.

    Returns:
        One estimate of each of the M, and draws of the means, shape (2, `NUM_RESAMPLES`, M): for
        lower bounds and for upper ones, to be put together with those of other problems. They are
        the resampled means, but where all or none are certain: there the upper draws of none are
        what (Clopper and Pearson's) bounds of all levels are, and so are the lower ones of all.
    """
    draws = np.stack([bootstrap_means(values, seed=seed)] * 2)
    estimates = []
    for column in range(values.shape[1]):
        shares = values[:, column]
        if shares.min() == shares.max() and shares[0] in (0.0, 1.0):
            uniform = np.random.default_rng((seed, column)).random(NUM_RESAMPLES)
            bounds = uniform ** (1 / len(shares))
            draws[int(shares[0] == 0.0), :, column] = bounds if shares[0] else 1.0 - bounds
            bound = _TAIL ** (1 / len(shares))
            low, high = (bound, 1.0) if shares[0] else (0.0, 1.0 - bound)
        else:
            low, high = percentile_interval(draws[0, :, column])
        estimates.append(Estimate(float(shares.mean()), low, high))
    return estimates, draws
