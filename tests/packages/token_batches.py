"""A module on a model's folder, and batches for it."""

from pathlib import Path
from typing import Any

import torch

from sfpo_rllib.rl_modules import CausalLMModule

# Prompt length and length of each sequence.
LENGTHS = [(3, 9), (1, 12), (6, 7), (4, 12)]


def build_module(folder: Path, **model_config: Any) -> CausalLMModule:
    return CausalLMModule(
        observation_space=None,
        action_space=None,
        model_config={"model": str(folder), **model_config},
    )


def token_batch(lengths: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Random tokens, padded on the right with tokens that must not matter."""
    generator = torch.Generator().manual_seed(0)
    width = max(length for _, length in lengths)
    shape = len(lengths), width
    positions = torch.arange(width).expand(shape)
    prompt, length = torch.tensor(lengths).T.unsqueeze(-1)
    return {
        "input_ids": torch.randint(3, 15, shape, generator=generator),
        "attention_mask": (positions < length).long(),
        "loss_mask": (positions >= prompt) & (positions < length),
    }
