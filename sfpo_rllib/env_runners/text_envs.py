"""Gymnasium text environments from whatever a config names."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry
from sfpo_envs import plugins


def make_text_env(env: Any, env_config: dict[str, Any]) -> gym.Env:
    """Makes an environment from a tune-registered name, a gymnasium id, a class or a callable.

    RLlib's own creator takes an id with a dot (`my_package.envs:my/Task-v0`) for a class path, so
    ids go to gymnasium here, with the environments of installed plug-ins registered.

    Args:
        env: As given to `config.environment(...)`.
        env_config: Keyword arguments for a gymnasium id or a gymnasium class; for registered
            creators and other callables the one argument, as in RLlib.

    Returns:
        The environment.
    """
    if isinstance(env, type) and issubclass(env, gym.Env):
        return env(**env_config)
    create: Callable[[EnvContext], gym.Env]
    if not isinstance(env, str):
        create = env
    elif _global_registry.contains(ENV_CREATOR, env):
        create = _global_registry.get(ENV_CREATOR, env)
    else:
        # The checker would step and compare every observation: users run it themselves.
        return plugins.make(env, disable_env_checker=True, **env_config)
    return create(EnvContext(env_config, worker_index=0))


class EnvPool:
    """Environments of one kind, kept for the next episodes."""

    def __init__(self, env: Any, env_config: dict[str, Any]) -> None:
        self._make = lambda: make_text_env(env, env_config)
        self._free: list[gym.Env] = []

    def take(self) -> gym.Env:
        """An environment nobody else uses; `reset` it first."""
        return self._free.pop() if self._free else self._make()

    def put_back(self, env: gym.Env) -> None:
        """Returns one in good order. One that raised is closed instead, with `env.close()`."""
        self._free.append(env)

    def close(self) -> None:
        """Closes all that are free."""
        while self._free:
            self._free.pop().close()
