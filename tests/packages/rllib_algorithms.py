"""RLlib's algorithms at their smallest: tiny networks, a few steps of CartPole or Pendulum.

The offline ones learn from a random policy's transitions, which RLlib's own pre-learner maps; only
the Ray Data pipeline around it is left out, as it takes half a minute to start.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.cql import CQLConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.algorithms.tqc import TQCConfig
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole, MultiAgentPendulum
from ray.rllib.offline.offline_data import OfflineData
from ray.rllib.offline.offline_prelearner import OfflinePreLearner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils import unflatten_dict

CARTPOLE = ("CartPole-v1", MultiAgentCartPole)
PENDULUM = ("Pendulum-v1", MultiAgentPendulum)
ONLINE: dict[str, tuple[type[AlgorithmConfig], tuple[str, type]]] = {
    "ppo": (PPOConfig, CARTPOLE),
    "appo": (APPOConfig, CARTPOLE),
    "impala": (IMPALAConfig, CARTPOLE),
    "dqn": (DQNConfig, CARTPOLE),
    "sac": (SACConfig, PENDULUM),
    "sac_discrete": (SACConfig, CARTPOLE),
    "tqc": (TQCConfig, PENDULUM),
}
OFFLINE: dict[str, tuple[type[AlgorithmConfig], tuple[str, type]]] = {
    "cql": (CQLConfig, PENDULUM),
    "bc": (BCConfig, CARTPOLE),
    "marwil": (MARWILConfig, CARTPOLE),
    "iql": (IQLConfig, PENDULUM),
}


def make_config(name: str, *, num_agents: int = 1) -> AlgorithmConfig:
    """Iterations of a few gradient steps, in one process; a module for each agent."""
    config_class, (env, multi_agent_env) = (ONLINE | OFFLINE)[name]
    config = (
        config_class()
        .environment(env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .rl_module(model_config={"fcnet_hiddens": [8], "head_fcnet_hiddens": [8]})
        .training(**_training(name, num_agents))
        .reporting(
            min_time_s_per_iteration=0,
            min_sample_timesteps_per_iteration=0,
            min_train_timesteps_per_iteration=0,
        )
        .debugging(seed=0)
    )
    if name in ("appo", "impala"):
        config.env_runners(rollout_fragment_length=10)
        config.learners(num_learners=0, num_aggregator_actors_per_learner=0)
    if name in OFFLINE:
        spaces = gym.make(env)
        config.environment(
            observation_space=spaces.observation_space, action_space=spaces.action_space
        )
        config.offline_data(
            input_="in memory",
            offline_data_class=Recorded,
            dataset_num_iters_per_learner=2 if name == "cql" else 1,
        )
    if num_agents > 1:
        config.environment(multi_agent_env, env_config={"num_agents": num_agents})
        config.multi_agent(
            policies={f"p{agent}" for agent in range(num_agents)},
            policy_mapping_fn=lambda agent, episode, **kwargs: f"p{agent}",
        )
    return config


def _training(name: str, num_agents: int) -> dict[str, Any]:
    if name == "ppo":
        return {"train_batch_size_per_learner": 64, "minibatch_size": 32, "num_epochs": 1}
    if name in ("appo", "impala"):
        once = {"circular_buffer_num_batches": 1, "circular_buffer_iterations_per_batch": 1}
        return {
            "train_batch_size_per_learner": 20,
            "broadcast_interval": 1,
            **(once if name == "appo" else {}),
        }
    if name in OFFLINE:
        return {"train_batch_size_per_learner": 16} | ({"lr": None} if name == "cql" else {})
    several = "MultiAgent" if num_agents > 1 else ""
    return {
        "train_batch_size_per_learner": 8,
        "num_steps_sampled_before_learning_starts": 8,
        "target_network_update_freq": 1,
        "replay_buffer_config": {
            "type": f"{several}PrioritizedEpisodeReplayBuffer",
            "capacity": 1000,
            "alpha": 0.6,
            "beta": 0.4,
        },
    }


def transitions(env: str, number: int) -> dict[str, list[Any]]:
    """The first steps of a random policy, by RLlib's column."""
    columns = ("eps_id", "obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")
    rows: dict[str, list[Any]] = {name: [] for name in columns}
    made = gym.make(env)
    made.action_space.seed(0)
    obs, _ = made.reset(seed=0)
    episode = 0
    for _ in range(number):
        action = made.action_space.sample()
        new_obs, reward, terminated, truncated, _ = made.step(action)
        row = (str(episode), obs, action, float(reward), new_obs, terminated, truncated)
        for column, value in zip(columns, row, strict=True):
            rows[column].append(value)
        obs = new_obs
        if terminated or truncated:
            obs, _ = made.reset()
            episode += 1
    return rows


class Recorded(OfflineData):
    """Always the same batch of recorded transitions."""

    def __init__(self, config: AlgorithmConfig) -> None:
        self.config = config
        self.iter_batches_kwargs: dict[str, Any] = {}

    def sample(self, num_samples: int, return_iterator: bool = False, **kwargs: Any) -> Any:
        """A batch, or what a learner may stream it from."""
        (learner,) = self.learner_handles
        state = learner.get_state(components=COMPONENT_RL_MODULE)[COMPONENT_RL_MODULE]
        prelearner = OfflinePreLearner(
            config=self.config, module_spec=self.module_spec, module_state=state
        )
        columns = prelearner(transitions(self.config.env, num_samples))
        columns = {name: torch.as_tensor(np.asarray(column)) for name, column in columns.items()}
        if return_iterator:
            return [Stream(columns)]
        modules = unflatten_dict(columns)
        return MultiAgentBatch(
            {module_id: SampleBatch(batch) for module_id, batch in modules.items()}, num_samples
        )


class Stream:
    """The part of `ray.data.DataIterator` that RLlib's learner uses."""

    def __init__(self, columns: dict[str, torch.Tensor]) -> None:
        self.columns = columns

    def iter_torch_batches(self, **kwargs: Any) -> "Stream":
        """One batch an epoch."""
        return self

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([self.columns])
