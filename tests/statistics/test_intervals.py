import math

import numpy as np
import pytest

from sfpo_rllib.statistics import bootstrap_interval, mean_estimates


def test_interval_covers_and_shrinks() -> None:
    values = list(np.random.default_rng(0).normal(size=200))
    low, high = bootstrap_interval(values, np.mean)
    assert low < np.mean(values) < high and high - low < 0.4
    assert all(math.isnan(bound) for bound in bootstrap_interval([]))


def test_the_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, size=(400, 2))
    estimates, draws = mean_estimates(values)
    for column, estimate in enumerate(estimates):
        error = 1.96 * values[:, column].std() / 20
        assert estimate.value == pytest.approx(values[:, column].mean())
        assert estimate.low == pytest.approx(estimate.value - error, abs=0.03)
        assert estimate.high == pytest.approx(estimate.value + error, abs=0.03)
    assert (draws[0] == draws[1]).all()
    assert np.corrcoef(draws[0].T)[0, 1] == pytest.approx(np.corrcoef(values.T)[0, 1], abs=0.05)


@pytest.mark.parametrize("num", [1, 20, 500])
def test_none_right_of_a_few_is_no_certainty(num: int) -> None:
    from scipy.stats import beta

    shares = np.stack([np.zeros(num), np.ones(num)], axis=1)
    (none, every), _ = mean_estimates(shares)
    assert (none.value, none.low) == (0.0, 0.0) and (every.value, every.high) == (1.0, 1.0)
    assert none.high == pytest.approx(beta.ppf(0.975, 1, num))
    assert every.low == pytest.approx(1 - none.high)
