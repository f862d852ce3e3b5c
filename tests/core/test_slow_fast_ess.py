"""How far the rule goes on a batch, by how much the batch says."""

import math

import pytest
import torch

from sfpo_rllib.core import SlowFast, SlowFastESS, Updater, UpdateRule


def trained(
    rule: UpdateRule, *shares: float, **more: float
) -> tuple[torch.Tensor, list[dict[str, float]]]:
    """After an update on each of some batches, whose first passes measure these shares."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = torch.optim.AdamW([weight], lr=0.03)
    updater, logged = Updater[torch.Tensor, dict[str, float]](rule), []
    for i, share in enumerate(shares):
        measured = iter([share, *[math.nan] * 10])  # those of later passes say nothing new

        def run_pass(target: torch.Tensor, measured=measured) -> dict[str, float]:
            optimizer.zero_grad()
            (weight - target).square().sum().backward()
            optimizer.step()
            return {"engine_ess": next(measured), **more}

        batch = torch.arange(3) + float(i)
        _, metrics = updater.update(batch, run_pass, parameters=[weight], optimizers=[optimizer])
        logged.append(metrics)
    return weight.detach(), logged


def test_where_the_sampling_policy_is_the_learning_one_it_is_slow_fast_to_the_bit() -> None:
    for alpha in (0.0, 0.3, 1.0):
        weight, logged = trained(SlowFastESS(3, alpha), 1.0, 1.0)
        assert torch.equal(weight, trained(SlowFast(3, alpha), 1.0, 1.0)[0])
        assert [metrics["scaled_alpha"] for metrics in logged] == [alpha] * 2


@pytest.mark.parametrize("share", [0.01, 0.25, 0.64])
def test_a_batch_that_says_less_is_followed_less_far(share: float) -> None:
    weight, (metrics,) = trained(SlowFastESS(3, 0.8), share)
    alpha = 0.8 * math.sqrt(share)
    assert metrics["scaled_alpha"] == pytest.approx(alpha)
    assert metrics["pull_back_norm"] == pytest.approx((1 - alpha) * metrics["displacement_norm"])
    assert torch.equal(weight, trained(SlowFast(3, metrics["scaled_alpha"]), 1.0)[0])


def test_an_entropy_that_is_no_number_takes_nothing_from_the_share() -> None:
    masked = trained(SlowFastESS(3, 0.8), 0.25, entropy=math.nan)  # logits that are -inf
    assert masked[1] == trained(SlowFastESS(3, 0.8), 0.25)[1]


def test_passes_that_do_not_measure_it_are_an_error_and_leave_the_parameters() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    updater = Updater[None, float](SlowFastESS())

    def run_pass(batch: None) -> float:
        with torch.no_grad():
            weight.add_(1.0)
        return 0.0

    with pytest.raises(ValueError, match="engine_ess"):
        updater.update(None, run_pass, parameters=[weight], optimizers=[])
    assert torch.equal(weight.detach(), torch.ones(2))
