"""GRPO: group-relative policy optimization, one pass over each batch."""

from sfpo_rllib.algorithms.grpo.grpo import GRPO
from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig

__all__ = ["GRPO", "GRPOConfig"]
