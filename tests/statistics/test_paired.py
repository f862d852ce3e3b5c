import numpy as np
import pytest
from scipy import stats

from sfpo_rllib.statistics import by_problem, by_seed


def test_no_difference_is_none_and_p_is_one() -> None:
    found = by_problem([[0.0] * 20])
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert by_seed([0.0, 0.0, 0.0]).p_value == 1.0


def test_the_p_value_of_signs_is_that_of_the_binomial() -> None:
    differences = [1.0] * 9 + [-1.0] * 3 + [0.0] * 30
    found = by_problem([differences])
    exact = stats.binomtest(9, 12).pvalue
    assert found.p_value == pytest.approx(exact, abs=0.015)
    assert found.value == pytest.approx(6 / 42)
    assert found.low is not None and found.high is not None and found.low < 6 / 42 < found.high


def test_p_values_without_a_difference_are_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    p_values = [by_problem([rng.choice([-0.5, 0.0, 0.5], size=40)]).p_value for _ in range(60)]
    assert 0 <= sum(p is not None and p < 0.05 for p in p_values) <= 8
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.15)


def test_tasks_have_one_weight_whatever_their_sizes() -> None:
    found = by_problem([[1.0] * 10, [0.0] * 1000])
    assert found.value == pytest.approx(0.5) and found.num_pairs == 1010


def test_seeds_are_compared_by_the_paired_t_test() -> None:
    differences = [0.1, 0.3, 0.2, 0.25]
    found = by_seed(differences)
    expected = stats.ttest_1samp(differences, 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_one_seed_has_no_interval() -> None:
    found = by_seed([0.2])
    assert (found.value, found.low, found.high, found.p_value) == (0.2, None, None, None)
