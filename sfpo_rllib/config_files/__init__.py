"""Configs in files: a YAML of settings, or a Python file that defines one."""

from sfpo_rllib.config_files.loading import load_config
from sfpo_rllib.config_files.plan import RunPlan, check, memory_of, plan_of

__all__ = ["RunPlan", "check", "load_config", "memory_of", "plan_of"]
