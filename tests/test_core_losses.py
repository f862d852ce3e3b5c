"""The clipped surrogate against a loop over tokens, and what its weights make invariant."""

import math

import pytest
import torch

from sfpo_rllib.core import clipped_surrogate_loss, token_weights
from sfpo_rllib.core.losses import LOSS_AGGREGATIONS

MAX_TOKENS = 9
CLIPS = [{}, {"clip_param": 0.1}, {"clip_param": 0.2, "clip_param_high": 0.28}]

# Sequences of unequal lengths, one with a gap (an environment's turn), one that does not count.
MASK = torch.tensor(
    [
        [0, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=torch.bool,
)


def example(rows: torch.Tensor = MASK) -> dict[str, torch.Tensor]:
    """Log-probs whose ratios fall below, within and above the clip range; float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    behaviour = -normal(*rows.shape).abs()
    return {
        "logp": behaviour + 0.3 * normal(*rows.shape),
        "behaviour_logp": behaviour,
        "advantages": normal(len(rows), 1),
    }


def weights_of(mask: torch.Tensor, aggregation: str, whole: torch.Tensor = MASK) -> torch.Tensor:
    """Weights of `mask`, a part of the mini-batch `whole`."""
    return token_weights(
        mask,
        aggregation=aggregation,
        num_tokens=float(whole.sum()),
        num_sequences=float(whole.any(dim=1).sum()),
        max_tokens=MAX_TOKENS,
    ).double()


def loss_by_loop(
    logp: torch.Tensor,
    behaviour_logp: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor,
    *,
    clip_param: float = 0.2,
    clip_param_high: float | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Token by token, in scalars."""
    low = 1 - clip_param
    high = 1 + (clip_param if clip_param_high is None else clip_param_high)
    loss, clip_fraction, kl = torch.zeros((), dtype=logp.dtype), 0.0, 0.0
    for i in range(logp.shape[0]):
        for t in range(logp.shape[1]):
            if weights[i, t] == 0:
                continue
            ratio = torch.exp(logp[i, t] - behaviour_logp[i, t])
            advantage = advantages[i, 0]
            stopped = (advantage > 0 and ratio > high) or (advantage < 0 and ratio < low)
            bound = high if advantage > 0 else low
            loss = loss - weights[i, t] * (bound if stopped else ratio) * advantage
            clip_fraction += float(stopped)
            r = ratio.item()
            kl += (r - 1) - math.log(r)
    return loss, {"clip_fraction": clip_fraction, "kl_to_start": kl}


def loss_and_gradient(loss_function, batch, weights, **clip):
    logp = batch["logp"].clone().requires_grad_()
    loss, metrics = loss_function(
        logp, batch["behaviour_logp"], batch["advantages"], weights, **clip
    )
    loss.backward()
    return loss.detach(), logp.grad, metrics


@pytest.mark.parametrize("clip", CLIPS, ids=str)
@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
def test_loss_gradient_and_metrics_equal_a_loop_over_tokens(aggregation, clip):
    weights = weights_of(MASK, aggregation)
    loss, gradient, metrics = loss_and_gradient(clipped_surrogate_loss, example(), weights, **clip)
    expected = loss_and_gradient(loss_by_loop, example(), weights, **clip)
    torch.testing.assert_close(loss, expected[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=0)
    assert metrics["clip_fraction"].item() == expected[2]["clip_fraction"]
    assert metrics["kl_to_start"].item() == pytest.approx(expected[2]["kl_to_start"], rel=1e-9)
    num_tokens = int(MASK.sum())
    assert 0 < expected[2]["clip_fraction"] < num_tokens  # both branches are there


@pytest.mark.parametrize(
    ("advantage", "ratio", "stopped"),
    [
        (1.0, 1.3, True),
        (1.0, 1.25, False),  # between the lower and the higher clip range
        (1.0, 0.5, False),
        (-1.0, 0.75, True),
        (-1.0, 1.9, False),
        (0.0, 1.9, False),
    ],
)
def test_clip_higher_stops_the_gradient_on_the_side_the_advantage_pushes_to(
    advantage, ratio, stopped
):
    logp = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss, metrics = clipped_surrogate_loss(
        logp,
        torch.zeros(1, 1),
        torch.tensor([[advantage]]),
        torch.ones(1, 1),
        clip_param=0.2,
        clip_param_high=0.28,
    )
    loss.backward()
    assert metrics["clip_fraction"].item() == float(stopped)
    expected = 0.0 if stopped else -advantage * ratio
    assert logp.grad.item() == pytest.approx(expected, rel=1e-6)


def test_at_the_start_of_the_batch_the_gradient_is_the_plain_policy_gradient():
    batch = example()
    batch["logp"] = batch["behaviour_logp"]
    weights = weights_of(MASK, "token")
    loss, gradient, metrics = loss_and_gradient(clipped_surrogate_loss, batch, weights)
    torch.testing.assert_close(gradient, -batch["advantages"] * weights)
    torch.testing.assert_close(loss, -(batch["advantages"] * weights).sum())
    assert metrics["kl_to_start"].item() == metrics["clip_fraction"].item() == 0.0


def test_kl_to_start_is_the_k3_estimate_and_never_negative():
    log_ratio = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(0)
    ones = torch.ones_like(log_ratio)
    for t in range(9):
        one = slice(t, t + 1)
        _, metrics = clipped_surrogate_loss(
            log_ratio[:, one], 0 * ones[:, one], ones[:, one], ones[:, one]
        )
        x = log_ratio[0, t].item()
        assert metrics["kl_to_start"].item() == pytest.approx(math.exp(x) - 1 - x)
        assert metrics["kl_to_start"].item() >= 0


def test_advantages_may_be_given_per_token():
    batch, weights = example(), weights_of(MASK, "token")
    per_sequence = loss_and_gradient(clipped_surrogate_loss, batch, weights)
    batch["advantages"] = batch["advantages"].expand(-1, MASK.shape[1])
    per_token = loss_and_gradient(clipped_surrogate_loss, batch, weights)
    assert torch.equal(per_sequence[0], per_token[0])
    assert torch.equal(per_sequence[1], per_token[1])


@pytest.mark.parametrize("junk", [math.inf, -math.inf, math.nan, 1e4])
@pytest.mark.parametrize("column", ["logp", "behaviour_logp", "both"])
def test_tokens_of_weight_zero_change_neither_value_nor_gradient(column, junk):
    weights = weights_of(MASK, "token")
    clean, dirty = example(), example()
    for name in ("logp", "behaviour_logp") if column == "both" else (column,):
        dirty[name] = torch.where(MASK, dirty[name], junk)
    expected = loss_and_gradient(clipped_surrogate_loss, clean, weights)
    actual = loss_and_gradient(clipped_surrogate_loss, dirty, weights)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    assert actual[2] == expected[2]
    assert (actual[1][~MASK] == 0).all()


# Weights.


@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
def test_weights_equal_their_definition(aggregation):
    lengths = [int(row.sum()) for row in MASK]
    per_token = {
        "token": [1 / sum(lengths)] * 4,
        "sequence": [1 / (n * 3) if n else 0.0 for n in lengths],
        "constant": [1 / (3 * MAX_TOKENS)] * 4,
    }[aggregation]
    expected = torch.tensor(per_token, dtype=torch.float64).unsqueeze(1) * MASK
    torch.testing.assert_close(weights_of(MASK, aggregation), expected, rtol=1e-6, atol=0)


PARTS = {
    "one by one": [[0], [1], [2], [3]],
    "pairs": [[0, 1], [2, 3]],
    "unequal, in another order": [[2], [3, 1, 0]],
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
def test_loss_and_gradient_do_not_depend_on_micro_batches_and_shards(aggregation, parts):
    batch = example()
    whole = loss_and_gradient(clipped_surrogate_loss, batch, weights_of(MASK, aggregation))
    loss, gradient = torch.zeros((), dtype=torch.float64), torch.zeros_like(whole[1])
    metrics = dict.fromkeys(whole[2], 0.0)
    for rows in parts:
        mask = MASK[rows]
        width = max(int(mask.any(dim=0).nonzero().max()) + 1, 1) if mask.any() else 1
        part = {name: column[rows][:, :width] for name, column in batch.items()}
        # What a shard knows of the whole are the two counts.
        weights = weights_of(mask[:, :width], aggregation)
        part_loss, part_gradient, part_metrics = loss_and_gradient(
            clipped_surrogate_loss, part, weights
        )
        loss += part_loss
        gradient[rows, :width] = part_gradient
        for name, value in part_metrics.items():
            metrics[name] += value.item()
    torch.testing.assert_close(loss, whole[0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient, whole[1], rtol=1e-12, atol=0)
    for name, value in whole[2].items():
        assert metrics[name] == pytest.approx(value.item())


@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
def test_sequences_that_do_not_count_leave_the_others_as_they_are(aggregation):
    filled = torch.cat([MASK, torch.zeros(5, MASK.shape[1], dtype=torch.bool)])
    weights = weights_of(filled, aggregation, whole=filled)
    assert torch.equal(weights[:4], weights_of(MASK, aggregation))
    assert not weights[4:].any()


@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
def test_a_mini_batch_without_a_token_that_counts_has_a_loss_of_zero(aggregation):
    empty = torch.zeros_like(MASK)
    weights = weights_of(empty, aggregation, whole=empty)
    loss, gradient, _ = loss_and_gradient(clipped_surrogate_loss, example(), weights)
    assert loss.item() == 0.0
    assert not gradient.any()


def test_an_unknown_aggregation_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"^aggregation='mean': must be one of \('token', .*\)"):
        weights_of(MASK, "mean")
