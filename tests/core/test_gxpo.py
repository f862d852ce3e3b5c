"""GXPO: where the two probes are taken to lead, and what becomes of the optimizer's moments."""

import copy
import itertools
from typing import Any

import pytest
import torch

from sfpo_rllib.core import GXPO, SlowFast, UpdateContext, Updater, UpdateRule

LR, DECAY = 0.1, 0.05


class Quadratic:
    """h/2 theta^2, each weight with an h of its own; a pass is one optimizer step."""

    def __init__(self, optimizer: type[torch.optim.Optimizer], **settings: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        self.curvatures = [
            0.1 + 8.0 * torch.rand(n, generator=generator).double() for n in (50, 20)
        ]
        self.params = [
            torch.nn.Parameter(torch.randn(n, generator=generator).double()) for n in (50, 20)
        ]
        self.optimizer = optimizer(self.params, lr=LR, **settings)  # type: ignore[call-arg]

    def run_pass(self, batch: object = None) -> None:
        self.optimizer.zero_grad()
        for h, param in zip(self.curvatures, self.params, strict=True):
            (0.5 * h * param.square()).sum().backward()
        self.optimizer.step()

    def update(self, rule: UpdateRule) -> dict[str, float]:
        ctx = UpdateContext(self.params, [self.optimizer], self.run_pass)
        rule.update(ctx)
        return ctx.metrics


def sgd() -> Quadratic:
    return Quadratic(torch.optim.SGD)


def adamw() -> Quadratic:
    quadratic = Quadratic(torch.optim.AdamW, weight_decay=DECAY)
    for _ in range(3):  # so that there are moments
        quadratic.run_pass()
    return quadratic


def assert_equal(one: Quadratic, other: Quadratic, atol: float) -> None:
    for param, expected in zip(one.params, other.params, strict=True):
        torch.testing.assert_close(param, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("fast_steps", [2, 3, 5, 10])
def test_on_a_diagonal_quadratic_it_ends_where_all_passes_would(
    fast_steps: int, alpha: float
) -> None:
    short, whole = sgd(), sgd()
    metrics, expected = (
        short.update(GXPO(fast_steps, alpha)),
        whole.update(SlowFast(fast_steps, alpha)),
    )
    assert_equal(short, whole, atol=1e-6)
    assert metrics["displacement_norm"] == pytest.approx(expected["displacement_norm"], rel=1e-5)
    assert 1.0 <= metrics["extrapolation"] <= fast_steps / 2 + 1


def test_one_ratio_a_tensor_is_right_where_the_curvature_is_the_tensors() -> None:
    short, whole = sgd(), sgd()
    for quadratic in (short, whole):
        quadratic.curvatures = [torch.full_like(h, 3.0 + i) for i, h in enumerate(short.curvatures)]
    short.update(GXPO(7, 0.5, per="tensor"))
    whole.update(SlowFast(7, 0.5))
    assert_equal(short, whole, atol=1e-6)


@pytest.mark.parametrize("per", ["coordinate", "tensor"])
@pytest.mark.parametrize("moments", ["keep", "roll_back"])
def test_with_adamw_it_is_the_ratio_of_directions_that_is_continued(per: str, moments: str) -> None:
    fast_steps, alpha = 6, 0.4
    actual, by_hand = adamw(), adamw()
    actual.update(GXPO(fast_steps, alpha, per=per, moments=moments))

    def thetas() -> list[torch.Tensor]:
        return [param.detach().clone() for param in by_hand.params]

    before = copy.deepcopy(by_hand.optimizer.state_dict())
    points = [thetas()]
    for _ in range(2):
        by_hand.run_pass()
        points.append(thetas())
    with torch.no_grad():
        for param, *theta in zip(by_hand.params, *points, strict=True):
            first, second = (((1 - LR * DECAY) * a - b) / LR for a, b in itertools.pairwise(theta))
            if per == "tensor":
                r = ((first * second).sum() / first.square().sum()).clamp(-1, 1)
            else:
                r = (second / first).clamp(-2, 3)
            scale = sum(r**k for k in range(fast_steps)) / (1 + r)
            scale = scale.clamp(1, fast_steps / 2 + 1)
            if per == "coordinate":
                scale[first.abs() <= 1e-3 * first.square().mean().sqrt()] = 1.0
            param.copy_(theta[0] + alpha * scale * (theta[2] - theta[0]))
    if moments == "roll_back":
        by_hand.optimizer.load_state_dict(before)
    by_hand.run_pass()
    assert_equal(actual, by_hand, atol=1e-5)
    for one, other in zip(
        actual.optimizer.state.values(), by_hand.optimizer.state.values(), strict=True
    ):
        assert one["step"] == other["step"] == (4 if moments == "roll_back" else 6)
        torch.testing.assert_close(one["exp_avg"], other["exp_avg"], rtol=0, atol=1e-4)


def test_rolled_back_before_there_are_moments_the_slow_step_is_the_first() -> None:
    quadratic = Quadratic(torch.optim.AdamW)
    quadratic.update(GXPO(4))
    assert {int(state["step"]) for state in quadratic.optimizer.state.values()} == {1}


def test_weights_that_do_not_move_or_move_to_and_fro_stay_finite() -> None:
    quadratic = sgd()
    quadratic.curvatures = [torch.zeros(50).double(), torch.full((20,), 2.0 / LR).double()]
    for per in ("coordinate", "tensor"):
        for fast_steps in (4, 5):  # r = -1, where S_2 is 0
            metrics = quadratic.update(GXPO(fast_steps, 0.5, per=per))
            assert all(torch.isfinite(param).all() for param in quadratic.params)
            assert 1.0 <= metrics["extrapolation"] <= fast_steps / 2 + 1


def test_a_pass_that_raises_puts_the_parameters_back_exactly() -> None:
    for failing in range(3):
        quadratic = adamw()
        start = [param.detach().clone() for param in quadratic.params]
        passes = iter(range(3))

        def run_pass(batch: object, quadratic=quadratic, passes=passes, failing=failing) -> None:
            quadratic.run_pass()
            if next(passes) == failing:
                raise RuntimeError("at the end")

        updater = Updater[None, None](GXPO())
        with pytest.raises(RuntimeError, match="at the end"):
            updater.update(
                None, run_pass, parameters=quadratic.params, optimizers=[quadratic.optimizer]
            )
        assert all(map(torch.equal, quadratic.params, start))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"fast_steps": 1}, "fast_steps=1: must be an integer >= 2"),
        ({"alpha": 0.0}, "alpha=0.0: must be above 0"),
        ({"per": "layer"}, "per='layer': must be one of"),
        ({"moments": "rollback"}, "moments='rollback': must be one of .* did you mean 'roll_back'"),
        ({"fast_fraction": 0.0}, "fast_fraction=0.0: must be a number"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        GXPO(**settings)
