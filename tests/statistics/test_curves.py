import numpy as np
import pytest

from sfpo_rllib.statistics import cost_to_reach, smoothed


def test_smoothing_is_a_centred_mean_of_three() -> None:
    assert smoothed([0.0, 3.0, 6.0, 3.0]) == pytest.approx([1.5, 3.0, 4.0, 4.5])


def test_smoothing_takes_the_neighbours_that_there_are() -> None:
    assert smoothed([1.0, 2.0, 6.0], 9) == pytest.approx([3.0] * 3)
    assert smoothed([0.5], 3) == pytest.approx([0.5])


def test_cost_is_interpolated_between_evaluations() -> None:
    assert cost_to_reach(np.linspace(0, 1, 11), list(range(0, 110, 10)), 0.25) == pytest.approx(25)


def test_what_is_never_reached_costs_nothing_that_is_known() -> None:
    assert cost_to_reach([0.1, 0.3, 0.2], [0, 10, 20], 0.31) is None
    assert cost_to_reach([0.1, 0.3, 0.2], [5, 10, 20], 0.1) == 5
