"""Fresh environments, by whatever a user names them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium

from sfpo_envs import plugins
from sfpo_envs.check.player import TextEnv


def maker(env: Any, config: dict[str, Any]) -> Callable[..., TextEnv]:
    """Return what makes a fresh environment, with further options."""
    if isinstance(env, str):
        return lambda **more: plugins.make(env, disable_env_checker=True, **(config | more))
    if isinstance(env, gymnasium.Env):
        return lambda: copy.deepcopy(env)
    return lambda **more: env(**(config | more))
