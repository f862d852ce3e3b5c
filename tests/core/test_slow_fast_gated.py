"""Signals that stop the fast trajectory: in a batch, and for good."""

import json
import math
from typing import Any

import pytest
import torch

from sfpo_rllib.core import SlowFast, SlowFastESS, SlowFastGated, Updater, UpdateRule

Result = dict[str, float]


class Training:
    """Steps towards a batch, by SGD; passes report norms that were laid down."""

    def __init__(self, *norms: float) -> None:
        self.norms = norms or (1.0,) * 20
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1)
        self.turned_in_pass: int | None = None  # from which pass on the gradient is turned round

    def update(self, updater: Updater[Any, Result], batch: float = 3.0) -> tuple[int, Result]:
        """The number of passes, and the metrics."""
        done: list[Result] = []

        def run_pass(batch: float) -> Result:
            turned = self.turned_in_pass is not None and len(done) >= self.turned_in_pass
            self.optimizer.zero_grad()
            ((self.weight - batch).square().sum() * (-1.0 if turned else 1.0)).backward()
            self.optimizer.step()
            done.append({"head_grad_norm": self.norms[len(done)], "entropy": 1.0})
            return done[-1]

        results, metrics = updater.update(
            batch, run_pass, parameters=[self.weight], optimizers=[self.optimizer]
        )
        assert results == done
        return len(done), metrics

    def by(self, rule: UpdateRule) -> tuple[int, Result]:
        return self.update(Updater(rule))


@pytest.mark.parametrize(
    ("norms", "fast_passes"),
    [
        ((1.0, 1.0, 1.0, 1.0, 1.0, 9.0), 5),  # the slow pass's is no signal
        ((1.0, 1.4, 1.5, 1.5, 1.0, 1.0), 5),
        ((1.0, 1.6, 1.0, 1.0, 1.0, 1.0), 2),
        ((1.0, 1.2, 0.5, 1.51, 1.0, 1.0), 4),
        ((0.0, 0.1, 0.0, 0.0, 0.0, 0.0), 2),
        ((2.0, 2.9, 3.1, 1.0, 1.0, 1.0), 3),  # to the first pass's, not to a constant
    ],
)
def test_the_trajectory_ends_after_the_pass_whose_gradient_surges(
    norms: tuple[float, ...], fast_passes: int
) -> None:
    training, short = Training(*norms), Training()
    num_passes, metrics = training.by(SlowFastGated(5, 0.4))
    assert (num_passes, metrics["fast_passes"]) == (fast_passes + 1, fast_passes)
    _, expected = short.by(SlowFast(fast_passes, 0.4))
    assert torch.equal(training.weight, short.weight)
    assert {name: metrics[name] for name in expected} == expected


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_without_a_signal_it_is_slow_fast_to_the_bit(alpha: float) -> None:
    gated, plain = Training(1.0, *[99.0] * 9), Training()
    gated.by(SlowFastGated(3, alpha, max_head_grad_growth=None))
    plain.by(SlowFast(3, alpha))
    assert torch.equal(gated.weight, plain.weight)


def test_batches_whose_slow_step_turns_against_the_fast_ones_stop_it_for_good() -> None:
    rule = SlowFastGated(2, 0.5, None, min_cosine=0.0, patience=2)
    updater, training = Updater[Any, Result](rule), Training()
    seen = []
    for turned_in_pass in (2, None, 2, 2, None, None):  # against, with, against twice
        training.turned_in_pass = turned_in_pass
        num_passes, metrics = training.update(updater)
        seen.append((num_passes, round(metrics["fast_slow_cosine"], 3), metrics["active"]))
    assert seen == [(3, -1, 1), (3, 1, 1), (3, -1, 1), (3, -1, 1), (1, 0, 0), (1, 0, 0)]


@pytest.mark.parametrize("saved_after", [1, 2, 3])
def test_what_it_has_seen_is_in_its_state(saved_after: int) -> None:
    def make() -> Updater[Any, Result]:
        return Updater(SlowFastGated(1, 0.5, None, min_cosine=0.5, patience=2))

    first, second, training = make(), make(), Training()
    training.turned_in_pass = 1
    counts = [training.update(first)[0] for _ in range(saved_after)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    counts += [training.update(second)[0] for _ in range(4 - saved_after)]
    assert counts == [2, 2, 1, 1]


def test_a_cosine_takes_another_copy_and_growth_a_measure_of_the_passes() -> None:
    assert SlowFastGated().parameter_copies == 1
    assert SlowFastGated(min_cosine=0.0).parameter_copies == 2
    assert SlowFastGated().pass_metrics == ("head_grad_norm",)
    assert SlowFastGated(max_head_grad_growth=None).pass_metrics == ()
    rule = SlowFastGated(2, 0.3, min_cosine=0.1, fast_minibatches=4)
    assert eval(repr(rule)) == rule


def test_a_batch_of_which_nothing_counts_is_no_signal() -> None:
    nothing = {"loss": 0.0, "entropy": math.nan}
    for rule in (SlowFastGated(2, min_cosine=0.0), SlowFastESS(2)):
        results, metrics = Updater[Any, Any](rule).update(
            None, lambda batch: nothing, parameters=[torch.ones(2)], optimizers=[]
        )
        assert results == [nothing] * 3
        assert metrics["displacement_norm"] == 0.0


def test_passes_that_do_not_measure_it_are_an_error_and_leave_the_parameters() -> None:
    weight = torch.nn.Parameter(torch.ones(2))

    def run_pass(batch: None) -> Result:
        with torch.no_grad():
            weight.add_(1.0)
        return {}

    updater = Updater[None, Result](SlowFastGated())
    with pytest.raises(ValueError, match=r"^max_head_grad_growth: must be None with passes that"):
        updater.update(None, run_pass, parameters=[weight], optimizers=[])
    assert torch.equal(weight.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_head_grad_growth": 0.0}, "max_head_grad_growth=0.0: must be a number > 0 or None"),
        ({"min_cosine": -1.5}, "min_cosine=-1.5: must be a number in"),
        ({"min_cosine": "low"}, "min_cosine='low': must be"),
        ({"patience": 0}, "patience=0: must be an integer >= 1"),
        ({"alpha": 2.0}, "alpha=2.0: must be"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SlowFastGated(**settings)
