"""Group-relative advantages against a loop."""

import math
import statistics

import pytest
import torch

from sfpo_rllib.core import group_relative_advantages

GROUPS = [
    [0.0, 1.0, 1.0, 0.0],
    [0.1, 0.1, 1.0, 0.0],
    [-3.0, 2.5, 0.0, 7.0],
    [0.5, 0.5, 0.5, 0.5],
    [1e6, 1e6 + 1, 1e6, 1e6],
]


def by_loop(groups: list[list[float]], normalize: bool) -> list[list[float]]:
    result = []
    for group in groups:
        mean = statistics.fmean(group)
        scale = statistics.stdev(group) + 1e-6 if normalize else 1.0
        result.append([(reward - mean) / scale for reward in group])
    return result


@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_formula_group_by_group(normalize):
    rewards = torch.tensor(GROUPS, dtype=torch.float64)
    advantages, _ = group_relative_advantages(rewards, normalize=normalize)
    expected = torch.tensor(by_loop(GROUPS, normalize), dtype=torch.float64)
    torch.testing.assert_close(advantages, expected, rtol=1e-9, atol=1e-9)


def test_normalizes_by_default():
    rewards = torch.tensor(GROUPS)
    default, _ = group_relative_advantages(rewards)
    assert torch.equal(default, group_relative_advantages(rewards, normalize=True)[0])


def test_a_group_does_not_depend_on_the_others():
    rewards = torch.tensor(GROUPS)
    together, _ = group_relative_advantages(rewards)
    for row in range(len(GROUPS)):
        alone, _ = group_relative_advantages(rewards[row : row + 1])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_give_exactly_zero_however_floats_round(dtype, normalize):
    values = torch.linspace(0.05, 3.0, 60, dtype=dtype)
    rewards = torch.cat([torch.full((1,), 0.1, dtype=dtype), values]).unsqueeze(1).expand(-1, 3)
    assert (rewards != rewards.mean(dim=1, keepdim=True)).any()  # rounding does matter here
    advantages, metrics = group_relative_advantages(rewards, normalize=normalize)
    assert torch.equal(advantages, torch.zeros_like(rewards))
    assert metrics["num_groups_equal_reward"] == 61


def test_counts_the_groups_of_equal_rewards():
    _, metrics = group_relative_advantages(torch.tensor(GROUPS))
    assert metrics["num_groups_equal_reward"] == 1


@pytest.mark.parametrize("shape", [(4,), (2, 1), (2, 3, 4), (2, 0)])
def test_rewards_that_are_not_groups_are_refused(shape):
    with pytest.raises(ValueError, match=r"^rewards: shape .*must be \(groups, group_size >= 2\)"):
        group_relative_advantages(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match=r"^rewards: must be finite"):
        group_relative_advantages(torch.tensor([[0.0, 1.0], [value, 0.0]]))
