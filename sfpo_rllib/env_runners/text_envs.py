"""Gymnasium text environments from whatever a config names."""

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_context import EnvContext
from ray.tune.registry import ENV_CREATOR, _global_registry
from sfpo_envs import plugins

from sfpo_rllib.env_runners.guarded_env import FaultLog, GuardedEnv

CLOSE_TIMEOUT_S = 10.0


def make_text_env(env: Any, env_config: dict[str, Any]) -> gym.Env:
    """Makes an environment from a tune-registered name, a gymnasium id, a class or a callable.

    RLlib's own creator takes an id with a dot (`my_package.envs:my/Task-v0`) for a class path, so
    ids go to gymnasium here, with the environments of installed plug-ins registered.

    Args:
        env: As given to `config.environment(...)`.
        env_config: Keyword arguments for a gymnasium id or a gymnasium class; for registered
            creators and other callables the one argument, as in RLlib.

    Raises:
        gymnasium.error.UnregisteredEnv: Nobody registered the id. The message says how to name the
            module that would.
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
        try:
            return plugins.make(env, disable_env_checker=True, **env_config)
        except gym.error.UnregisteredEnv as error:
            if ":" in env or _namespace(env) in map(_namespace, gym.registry):
                raise
            raise gym.error.UnregisteredEnv(
                f"{error} If a module registers it when it is imported, name that before the id: "
                f"'my_module:{env}'"
            ) from error
    return create(EnvContext(env_config, worker_index=0))


def _namespace(env_id: str) -> str:
    """Of an id that has none, its own name: others say nothing of it."""
    return env_id.partition("/")[0]


class UnmadeEnvSpace(gym.Space[Any]):
    """Stands for the space of an environment that could not be made.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class EnvPool:
    """Environments of one kind, kept for the next episodes.

    Attributes:
        faults: Where to log what goes wrong with them.
        has_made_one: Whether any has been made so far.
    """

    def __init__(
        self,
        env: Any,
        env_config: dict[str, Any],
        *,
        timeout_s: float | None = None,
        in_threads: bool = False,
        on_created: Callable[[Any], None] = lambda env: None,
    ) -> None:
        """Makes an empty pool.

        Args:
            env: As given to `config.environment(...)`.
            env_config: See `make_text_env`.
            timeout_s: The longest that a reset or step may take, in seconds.
            in_threads: Whether each lives in a thread of its own without a time-out, too.
            on_created: Is told of each that is made.
        """
        self._on_created = on_created
        self._make = lambda: make_text_env(env, env_config)
        self._timeout_s = timeout_s
        self._in_threads = in_threads
        self.has_made_one = False
        self._free: list[GuardedEnv] = []
        self._taken: set[GuardedEnv] = set()
        self.faults = FaultLog()

    def take(self) -> GuardedEnv:
        """An environment nobody else uses; `reset` it first, which makes it if it is a new one."""
        if self._free:
            env = self._free.pop()
        else:
            env = GuardedEnv(
                self._make_one,
                timeout_s=self._timeout_s,
                in_thread=self._in_threads,
                faults=self.faults,
            )
        self._taken.add(env)
        return env

    def announce(self, env: GuardedEnv) -> None:
        """Tells of one that was made. It is not used if nobody would have it."""
        try:
            self._on_created(env.env)
        except BaseException:
            self._taken.discard(env)
            env.close()
            raise

    def _make_one(self) -> gym.Env:
        env = self._make()
        self.has_made_one = True
        return env

    def put_back(self, env: GuardedEnv) -> None:
        """Keeps one for the next episode if it is in good order, else closes it."""
        if env not in self._taken:  # reclaimed
            return
        self._taken.remove(env)
        if env.is_in_order:
            self._free.append(env)
        else:
            env.close()

    def reclaim(self) -> None:
        """Puts back all that were taken, whoever had them when he was interrupted."""
        for env in list(self._taken):
            self.put_back(env)

    def close(self) -> None:
        """Closes all that are free, and waits for it, though not for ever."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while self._free:
            self._free.pop().close(wait_s=deadline - time.monotonic())
