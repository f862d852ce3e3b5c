"""Env runners that collect group rollouts over gymnasium text environments."""

from sfpo_rllib.env_runners.group_env_runner import GroupEnvRunner

__all__ = ["GroupEnvRunner"]
