"""The policy-agnostic core: torch only, no ray, no language models."""

from sfpo_rllib.core.advantages import group_relative_advantages
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.losses import clipped_surrogate_loss, token_weights
from sfpo_rllib.core.slow_fast import Reposition, slow_fast_update

__all__ = [
    "EntropyTrigger",
    "Reposition",
    "clipped_surrogate_loss",
    "group_relative_advantages",
    "slow_fast_update",
    "token_weights",
]
