"""Optimizers of a user's own: what they are given, what they cost, what is refused."""

import functools
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sfpo_rllib.core.optimizers import (
    OPTIMIZERS,
    OptimizerSpec,
    make_optimizer,
    optimizer_name,
    optimizer_problems,
    parameters_at_once,
    state_bytes,
)


class Plain(torch.optim.Optimizer):
    """Steps of its own kind; has neither betas nor a decay, and no default rate."""

    def __init__(self, params: Any, lr: float, power: int = 1) -> None:
        super().__init__(params, {"lr": lr, "power": power})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param].setdefault("last", torch.empty_like(param)).copy_(param.grad)
                param.sub_(group["lr"] * param.grad ** group["power"])


def looks_at_values(params: Any) -> torch.optim.Optimizer:
    """Makes one that decides by what a gradient is."""

    class Looking(Plain):
        def step(self, closure: Any = None) -> None:
            if self.param_groups[0]["params"][0].grad.sum() > 0:
                super().step()

    return Looking(params, 0.1)


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(8, 8)), torch.nn.Parameter(torch.ones(8))]


def test_a_class_of_ones_own_makes_its_own_steps() -> None:
    (weight, _) = params = weights()
    optimizer = make_optimizer(Plain, params, settings={"power": 2})
    assert type(optimizer) is Plain
    optimizer.param_groups[0]["lr"] = 0.5
    for param in params:
        param.grad = torch.full_like(param, 3.0)
    optimizer.step()
    assert (weight == 1 - 0.5 * 9).all()


def test_one_of_ones_own_is_given_what_it_has_arguments_for() -> None:
    seen = {}

    def make(params: Any, betas: Any, matrices: Any, *, eps: float = 1e-6) -> Any:
        seen.update(betas=betas, matrices=matrices, eps=eps)
        return torch.optim.AdamW(params, betas=betas, eps=eps)

    params = weights()
    make_optimizer(make, params, matrices=params[:1], betas=(0.5, 0.6), settings={"eps": 1e-3})
    assert seen == {"betas": (0.5, 0.6), "matrices": params[:1], "eps": 1e-3}


def test_one_of_ones_own_has_the_same_name_in_every_process() -> None:
    eager = functools.partial(torch.optim.NAdam, eps=1e-3)
    choices = ("sgd", Plain, looks_at_values, eager, OptimizerSpec(Plain), OptimizerSpec("a.b:C"))
    assert [optimizer_name(choice) for choice in choices] == [
        *("sgd", "Plain", "looks_at_values", "NAdam", "Plain", "a.b:C")
    ]
    (group,) = make_optimizer(eager, weights()).param_groups
    assert group["eps"] == 1e-3


def test_moments_of_ones_own_are_measured_on_tensors_without_data(caplog) -> None:
    with FakeTensorMode():
        params = weights()
        assert state_bytes(Plain, params) == 4 * 72
        assert state_bytes(Plain, [*params, *weights()]) == 4 * 144
        assert state_bytes(OptimizerSpec(Plain, state_bytes=lambda n, _: max(n)), params) == 64
        assert "AdamW" not in caplog.text
        assert state_bytes(looks_at_values, params) == 8 * 72  # what nobody can tell beforehand
    assert "state is taken to be AdamW's" in caplog.text


def test_what_a_step_updates_in_one_go_is_what_the_optimizer_says() -> None:
    params = weights()
    sizes = [
        parameters_at_once(OptimizerSpec(Plain, at_once=at_once), params, params[:1])
        for at_once in ("all", "others", "none")
    ]
    assert sizes == [72, 8, 0]


OWN_REFUSED = [
    (Plain, {"settings": {"powr": 2}}, "optimizer_kwargs['powr']=2: 'Plain' has only ['power']"),
    (Plain, {"weight_decay": 0.1}, "weight_decay=0.1: must be 0.01, as 'Plain' has no weight"),
    (Plain, {"betas": (0.5, 0.5)}, "adam_betas=(0.5, 0.5): must be (0.9, 0.999), as 'Plain' has"),
    (Plain, {"weight_decay": -1}, "weight_decay=-1: must be a number >= 0"),
    (dict, {}, "optimizer"),
    (list, {}, "optimizer=<class 'list'>: must make a torch.optim.Optimizer"),
    (lambda params, must: None, {}, "optimizer_kwargs={}: must have ['must']"),
    (lambda params: 1 / 0, {}, "optimizer_kwargs={}: "),
]


@pytest.mark.parametrize(("optimizer", "given", "begins"), OWN_REFUSED)
def test_what_one_of_ones_own_does_not_take_is_refused(optimizer, given, begins) -> None:
    values = {"betas": (0.9, 0.999), "weight_decay": 0.01, "settings": {}, **given}
    problems = list(optimizer_problems(optimizer, **values))
    assert any(problem.startswith(begins) for problem in problems), problems


@pytest.mark.parametrize("optimizer", [*(n for n in OPTIMIZERS if "8bit" not in n), Plain])
def test_what_is_good_has_no_problem(optimizer: Any) -> None:
    values = {"betas": (0.9, 0.999), "weight_decay": 0.01, "settings": {}}
    assert not list(optimizer_problems(optimizer, **values))
