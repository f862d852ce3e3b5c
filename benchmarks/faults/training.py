"""The run that is disturbed, and where it stands; `python -m benchmarks.faults.training ...`."""

import argparse
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch
import transformers

from sfpo_rllib import GRPO, SFPOConfig, run
from sfpo_rllib.rl_modules.char_llama import build_char_llama

ENV = "sfpo_envs:sfpo/Arithmetic-v0"


def build_model(folder: Path) -> Path:
    """A random character model, unless it is there."""
    if not folder.exists():
        build_char_llama(folder, alphabet="0123456789+=", hidden_size=32, num_layers=2)
    return folder


def make_config(model: Path, *, num_env_runners: int, num_learners: int = 0) -> SFPOConfig:
    """16 short rollouts an iteration; Adam and the trigger have a state to lose."""
    return (
        SFPOConfig()
        .environment(ENV, env_config={"num_digits": 2})
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            num_env_runners=num_env_runners,
            rollout_engine="transformers",
            sampling={"max_tokens": 4},
        )
        .learners(num_learners=num_learners)
        .training(
            lr=3e-4,
            train_batch_size_per_learner=16,
            group_size=4,
            entropy_window=10,
            entropy_z_threshold=1.0,
        )
        .debugging(seed=0, log_level="ERROR")
    )


def start_ray() -> None:
    """A ray with more logical CPUs than a small machine has, that says little."""
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    ray.init(num_cpus=8, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def digest(algo: GRPO) -> dict[str, Any]:
    """Where an algorithm stands: equal for equal weights, optimizer, trigger and cursor."""
    state = algo.get_state()
    learner = state["learner_group"]["learner"]
    return {
        "iteration": algo.iteration,
        "cursor": state["rollout_driver"]["cursor"],
        "rollouts": float(algo.metrics.peek(("env_runners", "num_rollouts_lifetime"), default=0)),
        **{name: _hash(learner[name]) for name in learner if name != "metrics_logger"},
    }


def _hash(value: Any) -> str:
    sha = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Mapping):
            for key, item in part.items():
                sha.update(repr(key).encode())
                add(item)
        elif isinstance(part, list | tuple):
            for item in part:
                add(item)
        elif isinstance(part, torch.Tensor):
            add(part.detach().cpu().contiguous().view(torch.uint8).numpy())
        elif hasattr(part, "tobytes"):
            sha.update(part.tobytes())
        else:
            sha.update(repr(part).encode())

    add(value)
    return sha.hexdigest()


def main() -> None:
    """Trains, or goes on, and writes the digest at the end."""
    parser = argparse.ArgumentParser(prog="benchmarks.faults.training", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--checkpoint-every", type=int, default=3)
    parser.add_argument("--num-env-runners", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    start_ray()
    run(
        make_config(args.model, num_env_runners=args.num_env_runners),
        args.folder,
        iterations=args.iterations,
        checkpoint_every=args.checkpoint_every,
        on_end=lambda algo: (args.folder / "digest.json").write_text(json.dumps(digest(algo))),
    )


if __name__ == "__main__":
    main()
