"""A run to be killed; `python -m run_probe folder model runners grace_s`.

Its environments wait while there is a file "hold" in the folder, so that a signal finds them at
work; after iteration N it renames "hold_after_N" to that. One that waits makes a file "waiting".
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from probes import ECHO

from sfpo_rllib import GRPO, RunResult, SFPOConfig, run

ITERATIONS = 6
CHECKPOINT_EVERY = 2


class Held(gym.Wrapper):
    """Waits in each step while a file is there."""

    def __init__(self, env: gym.Env, file: str) -> None:
        super().__init__(env)
        self.file = Path(file)

    def step(self, action: str) -> Any:
        """As the environment it wraps, when it may."""
        while self.file.exists():
            self.file.with_name("waiting").touch()
            time.sleep(0.05)
        return self.env.step(action)


def make_env(env_config: Mapping[str, str]) -> gym.Env:
    """The environment of the run."""
    return Held(gym.make(ECHO, disable_env_checker=True), env_config["hold"])


def make_config(model: str, hold: str, *, num_env_runners: int = 0) -> SFPOConfig:
    """A config for quick iterations; Adam's state and the trigger's window have to survive."""
    return (
        SFPOConfig()
        .environment(make_env, env_config={"hold": hold})
        .rl_module(model_config={"model": model})
        .env_runners(
            num_env_runners=num_env_runners,
            rollout_engine="transformers",
            sampling={"max_tokens": 4},
        )
        .training(
            lr=1e-3,
            train_batch_size_per_learner=16,
            group_size=4,
            minibatch_size=4,
            entropy_window=4,
            entropy_z_threshold=1.0,
        )
        .debugging(seed=0)
    )


def go(folder: Path, model: str, num_env_runners: int, **settings: Any) -> RunResult:
    """Runs, or goes on."""
    hold = folder / "hold"

    def say(algo: GRPO, result: dict[str, Any]) -> None:
        marker = folder / f"hold_after_{algo.iteration}"
        if marker.exists():
            marker.rename(hold)
        print("iteration", algo.iteration, flush=True)

    return run(
        make_config(model, str(hold), num_env_runners=num_env_runners),
        folder,
        iterations=ITERATIONS,
        checkpoint_every=CHECKPOINT_EVERY,
        on_result=say,
        may_differ=("env_config.hold",),
        **settings,
    )


if __name__ == "__main__":
    go(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), grace_s=float(sys.argv[4]))
