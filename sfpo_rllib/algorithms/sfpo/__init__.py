"""SFPO: slow-fast policy optimization on top of GRPO, and on any other torch learner."""

from sfpo_rllib.algorithms.sfpo.sfpo import SFPO, SFPOConfig
from sfpo_rllib.algorithms.sfpo.with_sfpo import with_sfpo

__all__ = ["SFPO", "SFPOConfig", "with_sfpo"]
