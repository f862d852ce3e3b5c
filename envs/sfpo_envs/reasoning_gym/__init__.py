"""Reasoning-gym's tasks: which ones (`tasks`), scored safely (`scoring`), as an environment."""

from sfpo_envs.reasoning_gym.env import ReasoningGymEnv, ReasoningGymItem

__all__ = ["ReasoningGymEnv", "ReasoningGymItem"]
