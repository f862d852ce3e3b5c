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
from sfpo_rllib.core import anchor
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


def test_an_adamw_step_at_1e_6_rounds_to_nothing_in_bfloat16_and_moves_float32_masters(learner):
    """From the same weights, by the same gradients."""
    masters = dict(module_of(learner).lm.named_parameters())
    with torch.no_grad():
        for param in masters.values():
            param.copy_(param.bfloat16())  # so that the halves begin where they do
    start = {name: param.detach().clone() for name, param in masters.items()}
    halves = {name: torch.nn.Parameter(weight.bfloat16()) for name, weight in start.items()}
    update(learner)
    for name, half in halves.items():
        half.grad = masters[name].grad.bfloat16()
    torch.optim.AdamW(halves.values(), lr=LR, weight_decay=0.0).step()

    for name, half in halves.items():
        # The step is below half a unit in the last place; only near 0 bfloat16 is that fine.
        large = (start[name].abs() > 1e-3) & (half.grad != 0)
        assert large.float().mean() > 0.9, name
        assert torch.equal(half.detach().float()[large], start[name][large]), name
        assert (masters[name] != start[name])[large].float().mean() > 0.99, name


def test_all_that_is_trained_and_kept_is_float32_where_the_model_computes_in_bfloat16(
    learner, monkeypatch
):
    snapshots: list[anchor.Anchor] = []
    init = anchor.Anchor.__init__

    def recorded(self: anchor.Anchor, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        snapshots.append(self)

    monkeypatch.setattr(anchor.Anchor, "__init__", recorded)
    lm = module_of(learner).lm
    computed: set[torch.dtype] = set()
    for layer in lm.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda _, args, output: computed.add(output.dtype))
    update(learner)

    assert computed == {torch.bfloat16}
    assert len(snapshots) == 1
    kept = {
        "weights": list(lm.parameters()),
        "gradients": [param.grad for param in lm.parameters()],
        "moments": [
            moment
            for moments in learner.get_optimizer().state.values()
            for name, moment in moments.items()
            if name != "step"
        ],
        "snapshot": [origin for _, origin in snapshots[0].pairs()],
    }
    number = len(kept["weights"])
    assert {name: len(tensors) for name, tensors in kept.items()} == {
        "weights": number,
        "gradients": number,
        "moments": 2 * number,
        "snapshot": number,
    }
    for name, tensors in kept.items():
        assert {tensor.dtype for tensor in tensors} == {torch.float32}, name
