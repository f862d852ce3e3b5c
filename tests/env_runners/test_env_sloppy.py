"""A run over an environment that does all that it must not."""

import time

import gymnasium as gym
import pytest
from probes import learned_groups, seeds, sfpo_results

from sfpo_rllib.algorithms.grpo import environment_problems


class SloppyEnv(gym.Env):
    """By its seed it does, three times in ten, one thing or another that it must not."""

    def reset(self, *, seed=None, options=None):
        self._deed = seed % 20
        self._turn = 0
        return (7, {}) if self._deed == 0 else (f"{seed % 100}=", {})

    def step(self, action):
        self._turn += 1
        over = self._turn == 2 and self._deed != 6  # 6 goes on until the context is full
        reward = {1: float("nan"), 2: "0.5"}.get(self._deed, len(action) / 8)
        if self._deed == 3:
            raise SystemExit("no licence")
        if self._deed == 4:
            time.sleep(30)
        info = {"is_success": None if self._deed == 5 else action == "1"}
        return "+=", reward, over, False, info

    def close(self):
        raise OSError("the connection is gone")


def test_a_run_goes_on_whatever_its_environment_does_and_counts_it(make_config, running):
    config = make_config(env=lambda config: SloppyEnv()).training(
        train_batch_size_per_learner=64, minibatch_size=None
    )
    config.env_config = {}
    config.env_runners(env_timeout_s=2.0)
    # What every seed does not do is not found when the algorithm is built.
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(environment_problems, "NUM_PROMPTS_CHECKED", 0)
        patches.setattr(environment_problems, "NUM_PROMPTS_REPEATED", 0)
        algo = running(config.build_algo())
    first = algo._cursor
    with learned_groups(algo) as batches:
        results = [algo.train() for _ in range(2)]
    trained = [seed for groups in batches for seed in seeds(groups)]
    assert trained == [seed for seed in range(trained[0], trained[-1] + 1) if seed % 20 > 5]
    asked_for = range(first, algo._cursor)
    counts = [result["env_runners"] for result in results]
    dropped = sum(count["num_groups_dropped"] for count in counts)
    assert dropped == sum(seed % 20 < 6 for seed in asked_for) == len(asked_for) - len(trained)
    stuck = sum(count["num_envs_timed_out"] for count in counts)
    assert stuck == sum(seed % 20 == 4 for seed in asked_for)
    assert all(count["truncated_fraction"] > 0 for count in counts)
    assert all(sfpo_results(result)["engine_logp_diff"] < 1e-5 for result in results)
