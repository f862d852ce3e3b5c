"""Batches whose log-probs are not of their own replies."""

import math

import pytest

from sfpo_rllib.core.batch_guard import MAX_IN_A_ROW, BatchGuard, BatchRefused

GOOD, BAD = [0.0, 1e-7, 0.03, 0.5], [0.51, 0.8, 40.0, math.inf, math.nan]


@pytest.mark.parametrize("diff", GOOD)
def test_what_rounding_explains_is_trained_on(diff):
    guard = BatchGuard(0.5)
    guard.check(diff)
    assert guard.state_dict() == {"refused": 0, "in_a_row": 0}


@pytest.mark.parametrize("diff", BAD)
def test_what_it_does_not_is_refused_and_counted(diff):
    guard = BatchGuard(0.5)
    with pytest.raises(BatchRefused, match=r"max_engine_logp_diff=0\.5") as refusal:
        guard.check(diff)
    assert refusal.value.diff is diff
    assert guard.state_dict() == {"refused": 1, "in_a_row": 1}


@pytest.mark.parametrize("diff", [*GOOD, *BAD])
def test_without_a_bound_all_is_trained_on(diff):
    BatchGuard(None).check(diff)


def test_so_many_in_a_row_are_the_end_and_good_ones_between_them_are_not():
    guard = BatchGuard(0.5)
    for _ in range(2):
        for _ in range(MAX_IN_A_ROW - 1):
            with pytest.raises(BatchRefused):
                guard.check(0.8)
        guard.check(0.1)
    restored = BatchGuard(0.5)
    restored.load_state_dict(guard.state_dict())
    for _ in range(MAX_IN_A_ROW - 1):
        with pytest.raises(BatchRefused):
            restored.check(0.8)
    with pytest.raises(RuntimeError, match=f"{MAX_IN_A_ROW} batches in a row") as error:
        restored.check(0.8)
    assert "Does the engine run the model" in str(error.value)
    assert restored.refused == 3 * MAX_IN_A_ROW - 2
