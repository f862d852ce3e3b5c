"""RLModules that hold a language model."""

from sfpo_rllib.rl_modules.causal_lm import CausalLMModule

__all__ = ["CausalLMModule"]
