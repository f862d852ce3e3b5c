"""One training run: a variant of PPO, at a learning rate, from a seed."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from benchmarks.pool import Job
from sfpo_rllib import with_sfpo

Curve = dict[str, list[float]]  # columns, a value an iteration


@dataclass(frozen=True)
class Settings:
    """What all runs have in common.

    Attributes:
        env: Gymnasium id.
        iterations: Batches a run, whatever it reaches.
        batch_size: Environment steps a batch.
        num_envs: Environments stepped together.
        minibatch_size: Of a gradient step, or of an update by SFPO.
        num_epochs: Of plain PPO and of SFPO.
        fast_steps: K.
        alpha: Where between start and end of the fast trajectory the slow step begins.
        hidden_size: Of the two layers of policy and value network.
        vf_loss_coeff: Weight of the value loss.
        grad_clip: Largest norm of a gradient.
        smoothing_episodes: Of the reported return, the mean over the last so many episodes.
    """

    env: str = "CartPole-v1"
    iterations: int = 50
    batch_size: int = 2000
    num_envs: int = 8
    minibatch_size: int = 250
    num_epochs: int = 2
    fast_steps: int = 3
    alpha: float = 0.8
    hidden_size: int = 64
    vf_loss_coeff: float = 0.5
    grad_clip: float = 0.5
    smoothing_episodes: int = 20


@dataclass(frozen=True)
class Run:
    """What makes a run: equal runs have equal returns."""

    variant: str
    lr: float
    seed: int
    settings: Settings

    def job(self) -> Job:
        """For the pool."""
        name = f"{self.variant}-{self.lr:g}-{self.seed}"
        return Job(name, {"run": asdict(self)}, partial(train, self))


BASELINE = "ppo"
VARIANTS: dict[str, Callable[[AlgorithmConfig, Settings], AlgorithmConfig]] = {
    BASELINE: lambda ppo, settings: ppo,
    "ppo_more_epochs": lambda ppo, settings: ppo.training(
        num_epochs=settings.num_epochs * (settings.fast_steps + 1)
    ),
    "sfpo": lambda ppo, settings: with_sfpo(
        ppo, fast_steps=settings.fast_steps, reposition_alpha=settings.alpha
    ),
}


def make_config(run: Run) -> AlgorithmConfig:
    """The run's algorithm: environments and learner in this process."""
    settings = run.settings
    ppo = (
        PPOConfig()
        .environment(settings.env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=settings.num_envs)
        .learners(num_learners=0)
        .training(
            lr=run.lr,
            train_batch_size_per_learner=settings.batch_size,
            minibatch_size=settings.minibatch_size,
            num_epochs=settings.num_epochs,
            lambda_=0.95,
            use_kl_loss=False,
            vf_loss_coeff=settings.vf_loss_coeff,
            vf_clip_param=float("inf"),  # RLlib's 10 would silence the value loss of returns of 100
            grad_clip=settings.grad_clip,
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[settings.hidden_size] * 2,
                fcnet_activation="tanh",
                vf_share_layers=False,
            )
        )
        .reporting(metrics_num_episodes_for_smoothing=settings.smoothing_episodes)
        .debugging(seed=run.seed, log_level="ERROR")
    )
    return VARIANTS[run.variant](ppo, settings)


def train(run: Run) -> dict[str, Curve]:
    """Trains for all the iterations. Seconds are of training alone, without the set-up.

    Returns:
        `curve`, a list a column.
    """
    curve: Curve = {
        name: [] for name in ("env_steps", "episode_return", "gradient_steps", "wall_s", "cpu_s")
    }
    algo = make_config(run).build_algo()
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(run.settings.iterations):
            result = algo.train()["env_runners"]
            curve["env_steps"].append(int(result["num_env_steps_sampled_lifetime"]))
            curve["episode_return"].append(_latest(curve, float(result["episode_return_mean"])))
            curve["gradient_steps"].append(_gradient_steps(algo))
            curve["wall_s"].append(round(time.perf_counter() - wall, 3))
            curve["cpu_s"].append(round(time.process_time() - cpu, 3))
    finally:
        algo.stop()
    return {"curve": curve}


def _latest(curve: Curve, episode_return: float) -> float:
    """The return, or the one before it if no episode has ended: a good one outlasts a batch."""
    if math.isnan(episode_return):
        return curve["episode_return"][-1] if curve["episode_return"] else 0.0
    return round(episode_return, 2)


def _gradient_steps(algo: Algorithm) -> int:
    """Optimizer steps so far, as Adam has counted them."""
    (_, optimizer), *_ = algo.learner_group._learner.get_optimizers_for_module(DEFAULT_MODULE_ID)
    assert isinstance(optimizer, torch.optim.Adam)
    return max(int(state["step"]) for state in optimizer.state.values())
