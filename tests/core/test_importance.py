"""What corrects for the engine against loops, and what is measured of it."""

import math

import pytest
import torch

from sfpo_rllib.core import engine_importance
from sfpo_rllib.core.importance import ENGINE_CORRECTIONS, effective_sample_share

MASK = torch.arange(6) < torch.tensor([6, 1, 0, 4, 5]).unsqueeze(1)
MASK[4, 1:3] = False
CAP, FLOOR = 1.3, 0.8


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    start = -torch.rand(MASK.shape, dtype=torch.float64, generator=generator)
    noise = torch.randn(MASK.shape, dtype=torch.float64, generator=generator)
    noise[3] = 1.0  # a whole sequence above the cap
    return start, start + 0.5 * noise


def by_loop(start, engine, correction):
    """Weights and metrics, token by token."""
    weights = torch.ones_like(start)
    gaps, ratios, beyond = [], [], 0
    for i in range(len(MASK)):
        tokens = [t for t in range(MASK.shape[1]) if MASK[i, t]]
        own = [math.exp(start[i, t] - engine[i, t]) for t in tokens]
        for t, ratio in zip(tokens, own, strict=True):
            gaps.append(abs(float(start[i, t] - engine[i, t])))
            if correction is not None and "sequence" in correction:
                ratio = math.prod(own) ** (1 / len(own))
            ratios.append(ratio)
            outside = not FLOOR <= ratio <= CAP
            beyond += outside
            if correction is not None:
                weights[i, t] = (
                    min(ratio, CAP) if "truncate" in correction else 0.0 if outside else ratio
                )
    return weights, {
        "engine_logp_diff": sum(gaps),
        "engine_logp_diff_max": max(gaps),
        "engine_ratio": sum(ratios),
        "engine_ratio_squared": sum(r * r for r in ratios),
        "engine_beyond_bounds": beyond,
    }


@pytest.mark.parametrize("correction", [None, *ENGINE_CORRECTIONS])
def test_weights_and_metrics_equal_a_loop_over_tokens(correction):
    start, engine = example()
    weights, metrics = engine_importance(
        start, engine, MASK, correction=correction, cap=CAP, floor=FLOOR
    )
    expected, expected_metrics = by_loop(start, engine, correction)
    torch.testing.assert_close(weights[MASK], expected[MASK], rtol=1e-10, atol=0)
    assert metrics.keys() == expected_metrics.keys()
    for name, value in expected_metrics.items():
        assert metrics[name].item() == pytest.approx(value, rel=1e-10), name
    assert 0 < expected_metrics["engine_beyond_bounds"] < int(MASK.sum())


@pytest.mark.parametrize("correction", [None, *ENGINE_CORRECTIONS])
def test_an_engine_that_agrees_changes_nothing(correction):
    start, _ = example()
    weights, metrics = engine_importance(start, start, MASK, correction=correction)
    assert (weights == 1).all()
    assert metrics["engine_logp_diff"] == metrics["engine_beyond_bounds"] == 0
    n = int(MASK.sum())
    assert effective_sample_share(metrics["engine_ratio"] / n, 1.0) == 1


@pytest.mark.parametrize("correction", ENGINE_CORRECTIONS)
def test_no_bound_is_met_sooner_by_a_longer_reply(correction):
    """A product of ratios would be e^(0.05 * 2000)."""
    for length in (1, 2000):
        start = torch.full((1, length), -1.0)
        mask = torch.ones(1, length, dtype=torch.bool)
        weights, metrics = engine_importance(start, start - 0.05, mask, correction=correction)
        torch.testing.assert_close(weights, torch.full((1, length), math.exp(0.05)))
        assert metrics["engine_beyond_bounds"] == 0


@pytest.mark.parametrize("correction", [None, *ENGINE_CORRECTIONS])
def test_weights_carry_no_gradient(correction):
    start, engine = example()
    weights, _ = engine_importance(start.requires_grad_(), engine, MASK, correction=correction)
    assert not weights.requires_grad


def test_ratios_beyond_all_measure_stay_finite():
    start = torch.zeros(1, 6)
    engine = torch.full((1, 6), -1e4)
    mask = torch.ones(1, 6, dtype=torch.bool)
    weights, metrics = engine_importance(start, engine, mask, correction="token_truncate")
    assert (weights == 2).all()
    assert all(torch.isfinite(value) for value in metrics.values())
    assert metrics["engine_logp_diff_max"] == 1e4


def test_the_effective_share_is_that_of_the_tokens_that_carry_the_estimate():
    ratios = torch.tensor([1.0] * 5 + [0.0] * 15, dtype=torch.float64)
    share = effective_sample_share(float(ratios.mean()), float(ratios.square().mean()))
    assert share == pytest.approx(0.25)


def test_an_unknown_correction_is_refused():
    with pytest.raises(ValueError, match=r"^correction='tis': must be one of .* or None"):
        engine_importance(*example(), MASK, correction="tis")
