"""Precision: what must be float32 for a step at RL's learning rates not to be lost, is."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch

pytest.importorskip("ray")

from ray.rllib.core import DEFAULT_MODULE_ID

from sfpo_rllib import SFPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.core import anchor, make_optimizer
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
    CausalLMModule,
)

LR = 1e-6


@pytest.fixture
def learner(make_config: Callable[..., SFPOConfig]) -> GRPOTorchLearner:
    """SFPO's, on its own, which computes in bfloat16."""
    config = make_config(SFPOConfig).training(lr=LR, optimizer="adamw", weight_decay=0.0)
    config.rl_module(model_config={**config.model_config, "dtype": "bfloat16"})
    space = gym.spaces.Text(1)
    return config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})


def module_of(learner: GRPOTorchLearner) -> CausalLMModule:
    return learner.module[DEFAULT_MODULE_ID].unwrapped()


def update(learner: GRPOTorchLearner) -> None:
    """One update on 16 random sequences."""
    generator = torch.Generator().manual_seed(0)
    shape = (16, 12)
    batch = {
        INPUT_IDS: torch.randint(3, 15, shape, generator=generator),
        ATTENTION_MASK: torch.ones(shape, dtype=torch.long),
        LOSS_MASK: (torch.arange(12) >= 4).expand(shape),
        BEHAVIOUR_LOGP: torch.full(shape, -2.7),
        ADVANTAGES: torch.randn(16, generator=generator),
    }
    learner._update({DEFAULT_MODULE_ID: batch})


def weights_of(module: CausalLMModule) -> dict[str, torch.Tensor]:
    """Those that are not near 0, where bfloat16 is as fine as one likes."""
    weights = {name: weight.clone() for name, weight in module.weights().items()}
    return {name: weight for name, weight in weights.items() if "norm" in name} | {
        name: weight[weight.abs() > 1e-2] for name, weight in weights.items() if weight.ndim > 1
    }


def test_an_adamw_step_at_1e_6_rounds_to_nothing_in_bfloat16_and_moves_float32_masters(learner):
    """Of the same weights by the same gradients."""
    module = module_of(learner)
    masters = {n: p for n, p in module.lm.named_parameters() if "norm" in n}
    start = {name: param.detach().clone() for name, param in masters.items()}
    halves = {
        name: torch.nn.Parameter(param.detach().bfloat16()) for name, param in masters.items()
    }
    assert all(torch.equal(halves[n].float(), start[n]) for n in start)  # nothing lost so far
    learner._updater.trigger = None
    update(learner)
    for name, half in halves.items():
        half.grad = masters[name].grad.bfloat16()
    assert all((half.grad != 0).all() for half in halves.values())
    make_optimizer("adamw", list(halves.values()), weight_decay=0.0, lr=LR).step()

    for name, half in halves.items():
        assert torch.equal(half.detach().float(), start[name]), name
        assert (masters[name] != start[name]).all(), name
