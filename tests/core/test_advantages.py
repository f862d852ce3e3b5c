"""Group-relative advantages against a loop."""

import math
import statistics

import pytest
import torch

from sfpo_rllib.core import ADVANTAGES, group_relative_advantages

GROUPS = [
    [0.0, 1.0, 1.0, 0.0],
    [0.1, 0.1, 1.0, 0.0],
    [-3.0, 2.5, 0.0, 7.0],
    [0.5, 0.5, 0.5, 0.5],
    [1e6, 1e6 + 1, 1e6, 1e6],
]


def by_loop(groups: list[list[float]], name: str) -> list[list[float]]:
    centred = [[r - statistics.fmean(group) for r in group] for group in groups]
    if name == "rloo":
        return [
            [r - statistics.fmean(group[:i] + group[i + 1 :]) for i, r in enumerate(group)]
            for group in groups
        ]
    if name == "group_mean":
        return centred
    of_batch = statistics.stdev(a for group in centred for a in group)
    scales = [of_batch if name == "batch" else statistics.stdev(group) for group in groups]
    return [
        [a / (scale + 1e-6) for a in group] for group, scale in zip(centred, scales, strict=True)
    ]


@pytest.mark.parametrize("name", ADVANTAGES)
def test_equals_the_formula_group_by_group(name):
    rewards = torch.tensor(GROUPS, dtype=torch.float64)
    advantages, _ = group_relative_advantages(rewards, name)
    expected = torch.tensor(by_loop(GROUPS, name), dtype=torch.float64)
    torch.testing.assert_close(advantages, expected, rtol=1e-10, atol=1e-10)


def test_normalizes_by_default():
    rewards = torch.tensor(GROUPS)
    default, _ = group_relative_advantages(rewards)
    assert torch.equal(default, group_relative_advantages(rewards, "group")[0])


@pytest.mark.parametrize("name", ADVANTAGES)
def test_a_group_depends_on_the_others_only_in_the_batchs_deviation(name):
    rewards = torch.tensor(GROUPS, dtype=torch.float64)
    together, _ = group_relative_advantages(rewards, name)
    same = [
        torch.allclose(
            group_relative_advantages(rewards[row : row + 1], name)[0][0], together[row], rtol=1e-12
        )
        for row in range(len(GROUPS))
        if len(set(GROUPS[row])) > 1
    ]
    assert all(same) if name != "batch" else not any(same)


@pytest.mark.parametrize("name", ADVANTAGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_give_exactly_zero_however_floats_round(dtype, name):
    values = torch.linspace(0.05, 3.0, 60, dtype=dtype)
    rewards = torch.cat([torch.full((1,), 0.1, dtype=dtype), values]).unsqueeze(1).expand(-1, 3)
    assert (rewards != rewards.mean(dim=1, keepdim=True)).any()  # rounding does matter here
    advantages, metrics = group_relative_advantages(rewards, name)
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


def test_an_own_function_sees_the_rewards_of_all_groups():
    seen = []

    def over_the_best(rewards: torch.Tensor) -> torch.Tensor:
        seen.append(rewards)
        return rewards - rewards.max()

    rewards = torch.tensor(GROUPS)
    advantages, metrics = group_relative_advantages(rewards, over_the_best)
    assert seen[0] is rewards
    assert torch.equal(advantages, rewards - rewards.max())
    assert metrics["num_groups_equal_reward"] == 1


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        (lambda rewards: rewards.mean(dim=1), r"must return .* shape \(5, 4\), got shape \(5,\)"),
        (lambda rewards: rewards / 0, "20 of them not finite"),
    ],
)
def test_an_own_function_that_returns_something_else_is_refused(own, problem):
    with pytest.raises(ValueError, match=problem):
        group_relative_advantages(torch.tensor(GROUPS).abs() + 1, own)


def test_an_unknown_name_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"^advantages='mean': must be one of \['batch', .*\]"):
        group_relative_advantages(torch.tensor(GROUPS), "mean")


@pytest.mark.parametrize("returned", [None, 3.0, [[0.0] * 4] * 2], ids=str)
def test_what_an_own_function_returns_must_be_a_tensor(returned: object) -> None:
    with pytest.raises(ValueError, match="must return a tensor of shape"):
        group_relative_advantages(torch.rand(2, 4), lambda rewards: returned)  # type: ignore[arg-type,return-value]
