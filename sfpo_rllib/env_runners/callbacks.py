"""RLlib's callbacks, as an env runner calls them."""

from typing import Any, Protocol

import gymnasium as gym
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils import force_list

from sfpo_rllib.env_runners.env_values import described


class CallbackError(Exception):
    """A callback raised: neither the environment's fault nor the engine's. It is the cause."""


class EpisodeListener(Protocol):
    """Is told of episodes as they begin, go on and end; what it raises is a `CallbackError`."""

    def episode(self, event: str, episode: SingleAgentEpisode, env: gym.Env, index: int) -> None:
        """See `EpisodeCallbacks.episode`."""


class EpisodeCallbacks:
    """Callbacks of one runner, for training or for evaluation.

    Classes, lists of them and functions are called as in RLlib, with the same keyword arguments.
    `rl_module` is None, as a runner has an engine in its place, and `env` one episode's gym.Env,
    not a vector of them.
    """

    def __init__(self, runner: EnvRunner, config: AlgorithmConfig) -> None:
        """Makes those that are given as classes.

        Args:
            runner: Calls them; what they log goes to its metrics.
            config: Has them.
        """
        self._runner = runner
        self._config = config
        self._objects = [make() for make in force_list(config.callbacks_class)]

    def environment_created(self, env: gym.Env) -> None:
        """Calls `on_environment_created`.

        Raises:
            CallbackError: If a callback raises.
        """
        context = EnvContext(
            self._config.env_config,
            worker_index=self._runner.worker_index,
            num_workers=self._config.num_env_runners,
        )
        self._call("on_environment_created", env=env, env_context=context)

    def episode(self, event: str, episode: SingleAgentEpisode, env: gym.Env, index: int) -> None:
        """Calls `on_episode_created`, `_start`, `_step` or `_end`.

        Args:
            event: One of "created", "start", "step" and "end".
            episode: As it is by then.
            env: Its environment.
            index: Of the episode among those of the job.

        Raises:
            CallbackError: If a callback raises.
        """
        more: dict[str, Any] = {"prev_episode_chunks": []} if event == "end" else {}
        self._call(
            f"on_episode_{event}",
            episode=episode,
            env=env,
            env_index=index,
            rl_module=None,
            **more,
        )

    def sample_end(self, samples: list[SingleAgentEpisode]) -> None:
        """Calls `on_sample_end`.

        Raises:
            CallbackError: If a callback raises.
        """
        self._call("on_sample_end", samples=samples)

    def _call(self, name: str, **kwargs: Any) -> None:
        try:
            make_callback(
                name,
                callbacks_objects=self._objects,
                callbacks_functions=getattr(self._config, f"callbacks_{name}"),
                kwargs={
                    **kwargs,
                    "env_runner": self._runner,
                    "metrics_logger": self._runner.metrics,
                },
            )
        except Exception as error:
            raise CallbackError(f"the callback {name} raised {described(error)}") from error
