"""The update rules: what they have in common, what each does, and how they are made."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from sfpo_rllib.core import (
    UPDATE_RULES,
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateContext,
    Updater,
    UpdateRule,
    make_update_rule,
)
from sfpo_rllib.core.update_rules import rule_name

Batch = tuple[torch.Tensor, torch.Tensor]

NUM_BATCHES = 4


def regression_batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(12, 3, generator=generator), torch.randn(12, 2, generator=generator))
        for _ in range(NUM_BATCHES)
    ]


class Training:
    """A float32 network with dropout under AdamW; mini-batches are drawn anew in each pass."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self.params = [
            torch.nn.Parameter(0.5 * torch.randn(shape, generator=self.generator))
            for shape in ((3, 8), (8,), (8, 2))
        ]
        self.optimizer = torch.optim.AdamW(self.params, lr=0.01, weight_decay=0.1)
        self.num_passes = 0

    def run_pass(self, batch: Batch) -> float:
        self.num_passes += 1
        x, y = batch
        hidden, bias, out = self.params
        for rows in torch.randperm(len(x), generator=self.generator).split(4):
            keep = torch.rand(len(rows), 8, generator=self.generator) < 0.8
            loss = ((torch.tanh(x[rows] @ hidden + bias) * keep) @ out - y[rows]).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item()

    def tensors(self) -> list[torch.Tensor]:
        """All that a further pass depends on."""
        states = [self.optimizer.state[param] for param in self.params]
        moments = [state[name] for state in states for name in ("step", "exp_avg", "exp_avg_sq")]
        return [*(p.detach() for p in self.params), *moments, self.generator.get_state()]


def trained(rule: UpdateRule) -> Training:
    """After an update by the rule on each of the batches."""
    training, updater = Training(), Updater[Batch, float](rule)
    for batch in regression_batches():
        updater.update(
            batch,
            training.run_pass,
            parameters=training.params,
            optimizers=[training.optimizer],
        )
    return training


# One rule at the end of another's range.


@pytest.mark.parametrize(
    ("rule", "same"),
    [
        (SlowFast(alpha=0.0), Single()),
        (SlowFast(alpha=0), Single()),
        (SlowFastReplay(alpha=0.0, num_batches=3), Single()),
        (MultiEpoch(1), Single()),
        (Lookahead(fast_steps=2, alpha=1.0), MultiEpoch(2)),
        (Extrapolated(fast_steps=2, alpha=0.7), SlowFast(fast_steps=2, alpha=0.7)),
        *((SlowFast(fast_steps=k, alpha=1.0), MultiEpoch(k + 1)) for k in (1, 3)),
        *((SlowFastReplay(3, alpha, num_batches=1), SlowFast(3, alpha)) for alpha in (0.0, 0.3, 1)),
    ],
    ids=str,
)
def test_two_rules_are_bitwise_the_same(rule: UpdateRule, same: UpdateRule) -> None:
    one, other = trained(rule), trained(same)
    assert one.num_passes == other.num_passes
    assert all(map(torch.equal, one.tensors(), other.tensors()))


def test_no_two_rules_are_the_same_at_their_defaults() -> None:
    ends = [trained(make_update_rule(name)).params[0] for name in UPDATE_RULES]
    for one, other in itertools.combinations(ends, 2):
        assert (one - other).abs().max() > 1e-3


# Lookahead.


@pytest.mark.parametrize(("fast_steps", "alpha"), [(1, 0.5), (3, 0.8), (4, 0.1)])
def test_lookahead_lands_between_start_and_end_of_its_passes(fast_steps: int, alpha: float) -> None:
    actual, expected = trained(Lookahead(fast_steps, alpha)), Training()
    for batch in regression_batches():
        start = [param.detach().clone() for param in expected.params]
        for _ in range(fast_steps):
            expected.run_pass(batch)
        with torch.no_grad():
            for param, theta in zip(expected.params, start, strict=True):
                param.copy_(theta + alpha * (param - theta))
    assert actual.num_passes == expected.num_passes
    for param, theta in zip(actual.params, expected.params, strict=True):
        torch.testing.assert_close(param, theta, rtol=0, atol=1e-5)


# Extrapolation.

LR = 0.1


class Quadratic:
    """h/2 |theta|^2 under plain SGD: a pass multiplies theta by 1 - LR h."""

    def __init__(self, curvature: float, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.params = [
            (scale * torch.randn(n, generator=generator)).double().requires_grad_() for n in (5, 3)
        ]
        self.optimizer = torch.optim.SGD(self.params, lr=LR)
        self.curvature = curvature
        self.num_passes = 0

    def run_pass(self, batch: object = None) -> None:
        self.num_passes += 1
        self.optimizer.zero_grad()
        for param in self.params:
            (0.5 * self.curvature * param.square().sum()).backward()
        self.optimizer.step()

    def update(self, rule: UpdateRule) -> dict[str, float]:
        ctx = UpdateContext(self.params, [self.optimizer], self.run_pass)
        assert len(rule.update(ctx)) == self.num_passes
        return ctx.metrics


@pytest.mark.parametrize("alpha", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("fast_steps", [2, 3, 4, 10, 50])
def test_three_passes_end_where_all_would_if_curvature_is_isotropic(
    fast_steps: int, alpha: float
) -> None:
    whole, short = Quadratic(curvature=3.0), Quadratic(curvature=3.0)
    expected, metrics = (
        whole.update(SlowFast(fast_steps, alpha)),
        short.update(Extrapolated(fast_steps, alpha)),
    )
    assert (whole.num_passes, short.num_passes) == (fast_steps + 1, 3)
    assert metrics["step_ratio"] == pytest.approx(1 - LR * 3.0, rel=1e-5)
    assert metrics["displacement_norm"] == pytest.approx(expected["displacement_norm"], rel=1e-5)
    for param, theta in zip(short.params, whole.params, strict=True):
        torch.testing.assert_close(param, theta, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("curvature", "ratio"), [(15.0, 0.0), (-5.0, 1.0)], ids=["turns round", "speeds up"]
)
def test_the_trajectory_is_neither_followed_back_nor_made_to_diverge(
    curvature: float, ratio: float
) -> None:
    quadratic, fast_steps, alpha = Quadratic(curvature), 6, 0.5
    start = [param.detach().clone() for param in quadratic.params]
    metrics = quadratic.update(Extrapolated(fast_steps, alpha))

    assert metrics["step_ratio"] == ratio
    a = 1 - LR * curvature  # of a pass
    assert not 0 <= a <= 1
    num_steps = 1 if ratio == 0 else fast_steps - 1
    end = a + num_steps * (a**2 - a)  # theta_1 + num_steps * d_1, in thetas_0
    factor = a * (1 + alpha * (end - 1))
    for param, theta in zip(quadratic.params, start, strict=True):
        torch.testing.assert_close(param.detach(), factor * theta, rtol=1e-6, atol=0)


def test_a_trajectory_that_does_not_move_is_left_where_it_is() -> None:
    quadratic = Quadratic(3.0, scale=0.0)
    metrics = quadratic.update(Extrapolated())
    assert metrics == {"step_ratio": 1.0, "displacement_norm": 0.0, "pull_back_norm": 0.0}
    assert not any(param.any() for param in quadratic.params)


def test_extrapolation_keeps_two_copies_of_the_parameters() -> None:
    params = [torch.zeros(size) for size in (30_000, 10_000, 5_000)]
    sizes = [param.nbytes for param in params]

    def run_pass(batch: object = None) -> None:
        with record_function("pass"):
            for param in params:
                param.neg_()

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        Extrapolated().update(UpdateContext(params, [], run_pass))
    live, peak = 0, 0
    at_passes = []
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
        elif event.name() == "pass":
            at_passes.append(live)
    slack = 1024  # scalars and norms
    assert len(at_passes) == 3
    for live, copies in zip(at_passes, (1, 2, 1), strict=True):
        assert copies * sum(sizes) <= live <= copies * sum(sizes) + slack
    assert peak <= 2 * sum(sizes) + 3 * max(sizes) + slack  # the dot product's, of one parameter


# Replay.


def test_replay_walks_the_last_batches_oldest_first_and_ends_on_the_new_one() -> None:
    rule = SlowFastReplay(fast_steps=2, alpha=0.5, num_batches=3)
    updater, walked, param = Updater[int, int](rule), [], torch.zeros(1)

    def run_pass(batch: int) -> int:
        walked.append(batch)
        param.add_(1.0)
        return batch

    for batch, recent in [(0, []), (1, [0]), (2, [0, 1]), (3, [1, 2]), (4, [2, 3])]:
        before = param.clone()
        walked.clear()
        results, metrics = updater.update(batch, run_pass, parameters=[param], optimizers=[])
        assert results == walked == [*recent, batch, batch, batch]
        assert metrics["num_recent_batches"] == len(recent)
        assert metrics["displacement_norm"] == len(recent) + 2
        # The way back is over the whole walk, and one slow pass comes after it.
        assert param - before == 0.5 * (len(recent) + 2) + 1


# Errors.


@pytest.mark.parametrize(
    "rule",
    [
        SlowFast(2),
        SlowFast(alpha=0.0),
        Lookahead(3),
        Extrapolated(5),
        SlowFastReplay(1, num_batches=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_pass_that_raises_puts_the_parameters_back_exactly(
    rule: UpdateRule, error: type[BaseException]
) -> None:
    batch, *recent = regression_batches()[: 1 + rule.history]
    complete = Training()

    def context(training: Training, run_pass: Any) -> UpdateContext:
        def run(other: Batch | None = None) -> float:
            return run_pass(training, batch if other is None else other)

        return UpdateContext(training.params, [training.optimizer], run, recent)

    rule.update(context(complete, Training.run_pass))
    assert complete.num_passes >= 1
    for failing in range(complete.num_passes):
        training = Training()
        start = [param.detach().clone() for param in training.params]

        def run_pass(training: Training, batch: Batch, failing: int = failing) -> float:
            result = training.run_pass(batch)
            if training.num_passes == failing + 1:
                raise error("at the end of the pass")
            return result

        with pytest.raises(error, match="at the end"):
            rule.update(context(training, run_pass))
        assert training.num_passes == failing + 1
        assert all(map(torch.equal, training.params, start))


@pytest.mark.parametrize("num_optimizers", [0, 1, 2])
def test_the_optimizer_is_there_if_there_is_one(num_optimizers: int) -> None:
    optimizers = [torch.optim.SGD([torch.zeros(1)]) for _ in range(num_optimizers)]
    ctx = UpdateContext([], optimizers, lambda batch=None: None)
    if num_optimizers == 1:
        assert ctx.optimizer is optimizers[0]
    else:
        with pytest.raises(ValueError, match=f"^optimizer: there are {num_optimizers}, use `opt"):
            ctx.optimizer  # noqa: B018


# How they are made.


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_a_name_makes_the_rule_with_its_defaults(name: str) -> None:
    rule = make_update_rule(name)
    assert type(rule) is UPDATE_RULES[name]
    assert rule == UPDATE_RULES[name]()
    assert rule_name(rule) == name


def test_settings_are_the_rules_own() -> None:
    assert make_update_rule("multi_epoch", epochs=2) == MultiEpoch(2)
    assert make_update_rule("extrapolated", fast_steps=9, alpha=0.5) == Extrapolated(9, 0.5)
    rule = make_update_rule("slow_fast_replay", fast_steps=1, alpha=0.1, num_batches=4)
    assert rule == SlowFastReplay(1, 0.1, 4)
    assert rule.history == 3


class Own(SlowFast):
    """A rule of somebody else, though of ours."""


def test_an_instance_stays_as_it_is_and_takes_no_settings() -> None:
    own = Own(2)
    assert make_update_rule(own) is own
    assert rule_name(own) == "Own"
    with pytest.raises(ValueError, match=r"^update_rule=Own\(.*takes no settings.*'alpha': 0.5"):
        make_update_rule(own, alpha=0.5)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("slow_fst", "; did you mean 'slow_fast'?"), ("lookahed", "'lookahead'?"), ("zzqxj", "]")],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_update_rule(name)
    assert str(caught.value).startswith(f"update_rule={name!r}: must be an UpdateRule or one of [")
    assert str(caught.value).endswith(hint)
    assert all(repr(known) in str(caught.value) for known in UPDATE_RULES)


@pytest.mark.parametrize("rule", [None, 3, SlowFast, ["single"]])
def test_what_is_neither_name_nor_rule_is_refused(rule: Any) -> None:
    with pytest.raises(ValueError, match=r"^update_rule=.*: must be an UpdateRule or one of"):
        make_update_rule(rule)


def test_a_setting_of_another_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^epochs=3: 'slow_fast' has only \['fast_steps', 'alp"):
        make_update_rule("slow_fast", epochs=3)


NOT_COUNTS = (0, -1, 1.5, 3.0, True, "3", None)
NOT_SHARES = (-0.1, 1.1, math.nan, math.inf, "0.8", None)
WITH_FAST_STEPS = ("slow_fast", "lookahead", "extrapolated", "slow_fast_replay")


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *(("multi_epoch", "epochs", value) for value in NOT_COUNTS),
        *((name, "fast_steps", value) for name in WITH_FAST_STEPS for value in NOT_COUNTS),
        *((name, "alpha", value) for name in WITH_FAST_STEPS for value in NOT_SHARES),
        *(("slow_fast_replay", "num_batches", value) for value in NOT_COUNTS),
        *(("slow_fast_replay", "max_age", value) for value in NOT_COUNTS if value is not None),
        ("slow_fast_replay", "max_age", 3),  # by batch
        ("slow_fast_replay", "priority", -1.0),
        ("slow_fast_replay", "by", "sequence"),
        ("extrapolated", "fast_steps", 1),
        *((name, "alpha", 0.0) for name in ("lookahead", "extrapolated")),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, field: str, value: object) -> None:
    with pytest.raises(ValueError) as caught:
        make_update_rule(name, **{field: value})
    assert str(caught.value).startswith(f"{field}={value!r}: must be")
