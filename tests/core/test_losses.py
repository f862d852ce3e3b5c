"""Each policy loss against a loop over tokens, and what the weights make invariant."""

import dataclasses
import math

import pytest
import torch

from sfpo_rllib.core import LOSSES, LossInputs, PolicyLoss, make_loss, token_weights
from sfpo_rllib.core.losses import LOSS_AGGREGATIONS, ClipRange, clipped_surrogate

MAX_TOKENS = 9
CLIPS = [{}, {"clip_param": 0.1}, {"clip_param": 0.2, "clip_param_high": 0.28}]
DUAL = {"clip_param_dual": 1.3}

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


def example(spread: float = 0.3) -> dict[str, torch.Tensor]:
    """Log-probs whose ratios fall below, within and above the clip range; float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    start = -normal(*MASK.shape).abs()
    return {
        "logp": start + spread * normal(*MASK.shape),
        "start_logp": start,
        "advantages": normal(len(MASK), 1),
        "mask": MASK,
    }


def example_for(loss: PolicyLoss) -> dict[str, torch.Tensor]:
    return example(spread=3e-3 if loss.clip.low < 0.01 else 0.3)


def weights_of(mask: torch.Tensor, aggregation: str, whole: torch.Tensor = MASK) -> torch.Tensor:
    """Weights of `mask`, a part of the mini-batch `whole`."""
    return token_weights(
        mask,
        aggregation=aggregation,
        num_tokens=float(whole.sum()),
        num_sequences=float(whole.any(dim=1).sum()),
        max_tokens=MAX_TOKENS,
        dtype=torch.float64,
    )


def normaliser_by_loop(aggregation: str, length: int) -> float:
    """What a token's term is divided by, in a sequence of that length."""
    lengths = [int(row.sum()) for row in MASK if row.any()]
    return {
        "token": sum(lengths),
        "sequence": len(lengths) * length,
        "constant": len(lengths) * MAX_TOKENS,
    }[aggregation]


def pessimistic(ratio, advantage, low, high, dual=None):
    """PPO's minimum of two terms, in scalars; and its bound where that has none."""
    if dual is not None and advantage < 0 and ratio > dual:
        return dual * advantage, True
    bound = high if advantage > 0 else low
    stopped = (advantage > 0 and ratio > high) or (advantage < 0 and ratio < low)
    return (bound if stopped else ratio) * advantage, stopped


def loss_by_loop(name, loss, batch):
    """Sequence by sequence and token by token, in scalars, as the paper has it.

    GSPO is written in its sequence form: one ratio, and one term a sequence.
    """
    low, high = 1 - loss.clip.low, 1 + loss.clip.high
    clip = low, high, loss.clip.dual
    total, clipped = torch.zeros((), dtype=torch.float64), 0.0
    for i in range(len(batch["mask"])):
        tokens = [t for t in range(batch["mask"].shape[1]) if batch["mask"][i, t]]
        advantage = batch["advantages"][i, 0]
        ratios = [torch.exp(batch["logp"][i, t] - batch["start_logp"][i, t]) for t in tokens]
        if name == "gspo" and tokens:
            product = math.prod(ratios[1:], start=ratios[0])
            term, stopped = pessimistic(product ** (1 / len(tokens)), advantage, *clip)
            for _ in tokens:
                total = total - term / normaliser_by_loop(loss.aggregation, len(tokens))
                clipped += stopped
            continue
        for t, ratio in zip(tokens, ratios, strict=True):
            logp = batch["logp"][i, t]
            if name == "reinforce":
                term, stopped = advantage * logp, False
            elif name == "cispo":
                weight = min(max(ratio.item(), low), high)
                term, stopped = weight * advantage * logp, weight != ratio.item()
            else:
                term, stopped = pessimistic(ratio, advantage, *clip)
            total = total - term / normaliser_by_loop(loss.aggregation, len(tokens))
            clipped += stopped
    return total, {"clip_fraction": clipped}


def loss_and_gradient(loss, batch, weights):
    logp = batch["logp"].clone().requires_grad_()
    value, metrics = loss.function(
        LossInputs(**{**batch, "logp": logp}, weights=weights), loss.clip
    )
    value.backward()
    return value.detach(), logp.grad, metrics


def variants():
    """Every loss under its own settings, under all normalisers, and in other clip ranges."""
    for name, loss in LOSSES.items():
        yield pytest.param(name, {}, id=name)
        for aggregation in LOSS_AGGREGATIONS:
            if aggregation != loss.aggregation:
                yield pytest.param(name, {"aggregation": aggregation}, id=f"{name}-{aggregation}")
        for clip in CLIPS[1:]:
            yield pytest.param(name, clip, id=f"{name}-{clip}")
    for name in ("grpo", "dapo"):
        yield pytest.param(name, DUAL, id=f"{name}-{DUAL}")


@pytest.mark.parametrize(("name", "settings"), list(variants()))
def test_loss_gradient_and_metrics_equal_a_loop_over_tokens(name, settings):
    loss = dataclasses.replace(LOSSES[name], **settings)
    actual = loss_and_gradient(loss, example_for(loss), weights_of(MASK, loss.aggregation))
    batch = example_for(loss)
    batch["logp"].requires_grad_()
    expected, metrics = loss_by_loop(name, loss, batch)
    expected.backward()
    torch.testing.assert_close(actual[0], expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(actual[1], batch["logp"].grad, rtol=1e-11, atol=1e-15)
    assert actual[2]["clip_fraction"].item() == metrics["clip_fraction"]


def test_both_branches_of_every_clip_are_in_the_example():
    for name in ("grpo", "dapo"):
        loss = dataclasses.replace(LOSSES[name], **DUAL)
        by_dual = loss_by_loop(name, loss, example_for(loss))[1]["clip_fraction"]
        without = loss_by_loop(name, LOSSES[name], example_for(loss))[1]["clip_fraction"]
        assert by_dual > without, name
    for name in ("grpo", "dr_grpo", "dapo", "gspo"):
        _, metrics = loss_by_loop(name, LOSSES[name], example_for(LOSSES[name]))
        assert 0 < metrics["clip_fraction"] < int(MASK.sum()), name
    cispo = dataclasses.replace(LOSSES["cispo"], clip_param=0.2, clip_param_high=0.2)
    assert 0 < loss_by_loop("cispo", cispo, example())[1]["clip_fraction"] < int(MASK.sum())


GRPO = LOSSES["grpo"]


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
    batch = {
        "logp": torch.tensor([[math.log(ratio)]]),
        "start_logp": torch.zeros(1, 1),
        "advantages": torch.tensor([[advantage]]),
        "mask": torch.ones(1, 1, dtype=torch.bool),
    }
    _, gradient, metrics = loss_and_gradient(LOSSES["dapo"], batch, torch.ones(1, 1))
    assert metrics["clip_fraction"].item() == float(stopped)
    expected = 0.0 if stopped else -advantage * ratio
    assert gradient.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_at_the_start_of_the_batch_the_gradient_is_the_plain_policy_gradient(name):
    batch = example()
    batch["logp"] = batch["start_logp"]
    weights = weights_of(MASK, LOSSES[name].aggregation)
    _, gradient, metrics = loss_and_gradient(LOSSES[name], batch, weights)
    torch.testing.assert_close(gradient, -batch["advantages"] * weights)
    assert metrics["clip_fraction"].item() == 0.0


def test_a_clipped_token_keeps_its_gradient_in_cispo_alone():
    batch = example()
    batch["logp"] = batch["start_logp"] + 2.0
    batch["advantages"] = torch.ones(4, 1, dtype=torch.float64)
    weights = weights_of(MASK, "token")
    assert not loss_and_gradient(GRPO, batch, weights)[1].any()
    gradient = loss_and_gradient(LOSSES["cispo"], batch, weights)[1]
    torch.testing.assert_close(gradient, -5.0 * weights)  # e^2 is above the bound of 5


def test_the_ratio_of_a_sequence_does_not_grow_with_its_length_in_gspo():
    for length in (1, 10, 1000):
        batch = {
            "logp": torch.full((1, length), 1e-4),
            "start_logp": torch.zeros(1, length),
            "advantages": torch.ones(1, 1),
            "mask": torch.ones(1, length, dtype=torch.bool),
        }
        loss, _, metrics = loss_and_gradient(
            LOSSES["gspo"], batch, torch.full((1, length), 1 / length)
        )
        assert loss.item() == pytest.approx(-math.exp(1e-4), rel=1e-6)
        assert metrics["clip_fraction"] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_advantages_may_be_given_per_token(name):
    batch, weights = example(), weights_of(MASK, "token")
    per_sequence = loss_and_gradient(LOSSES[name], batch, weights)
    batch["advantages"] = batch["advantages"].expand(-1, MASK.shape[1])
    per_token = loss_and_gradient(LOSSES[name], batch, weights)
    assert torch.equal(per_sequence[0], per_token[0])
    assert torch.equal(per_sequence[1], per_token[1])


@pytest.mark.parametrize("junk", [math.inf, -math.inf, math.nan, 1e4])
@pytest.mark.parametrize("column", ["logp", "start_logp", "both"])
@pytest.mark.parametrize("name", LOSSES)
def test_tokens_that_do_not_count_change_neither_value_nor_gradient(name, column, junk):
    weights = weights_of(MASK, "token")
    clean, dirty = example(), example()
    for changed in ("logp", "start_logp") if column == "both" else (column,):
        dirty[changed] = torch.where(MASK, dirty[changed], junk)
    expected = loss_and_gradient(LOSSES[name], clean, weights)
    actual = loss_and_gradient(LOSSES[name], dirty, weights)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
    assert actual[2] == expected[2]
    assert (actual[1][~MASK] == 0).all()


# By name, and one's own.


def test_an_own_function_is_taken_under_the_settings_of_grpo():
    def own(inputs, clip):
        return (inputs.log_ratio * inputs.weights).sum(), {}

    assert make_loss(own) == PolicyLoss(own)
    assert make_loss(PolicyLoss(own, aggregation="constant")).aggregation == "constant"
    assert make_loss("grpo") is GRPO


@pytest.mark.parametrize(("name", "near"), [("drgrpo", "dr_grpo"), ("ppo", ""), (3, "")])
def test_an_unknown_loss_is_refused_with_those_that_exist(name, near):
    with pytest.raises(ValueError, match=rf"^loss={name!r}: must be one of \['cispo'.*{near}"):
        make_loss(name)


def test_the_upper_clip_range_is_the_lower_one_unless_there_is_another():
    assert PolicyLoss(clipped_surrogate, clip_param=0.1).clip == ClipRange(0.1, 0.1)
    assert LOSSES["dapo"].clip == ClipRange(0.2, 0.28)


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
    torch.testing.assert_close(weights_of(MASK, aggregation), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("aggregation", LOSS_AGGREGATIONS)
def test_sequences_that_do_not_count_leave_the_others_as_they_are(aggregation):
    filled = torch.cat([MASK, torch.zeros(5, MASK.shape[1], dtype=torch.bool)])
    weights = weights_of(filled, aggregation, whole=filled)
    assert torch.equal(weights[:4], weights_of(MASK, aggregation))
    assert not weights[4:].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_micro_batch_without_a_token_that_counts_has_a_loss_and_gradient_of_zero(name):
    empty = torch.zeros_like(MASK)
    batch = {**example(), "mask": empty}
    weights = weights_of(empty, LOSSES[name].aggregation)
    loss, gradient, metrics = loss_and_gradient(LOSSES[name], batch, weights)
    assert loss.item() == 0.0
    assert not gradient.any()
    assert metrics["clip_fraction"] == 0


def test_an_unknown_aggregation_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"^aggregation='mean': must be one of \('token', .*\)"):
        weights_of(MASK, "mean")
