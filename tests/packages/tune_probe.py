"""A sweep that shows where its trials stand; `python -m tune_probe fit|restore folder model`.

With WAIT_IN_ITERATION set, trials wait there to be killed, before the iteration's result is known.
"""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from probes import ECHO
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.callbacks import RLlibCallback

from sfpo_rllib import SFPOConfig

ITERATIONS = 4
WINDOW = 10


class Report(RLlibCallback):
    """Puts the state of driver and learner into the results."""

    def on_train_result(
        self, *, algorithm: Algorithm, result: dict[str, Any], **kwargs: Any
    ) -> None:
        learner = algorithm.learner_group._learner
        result["score"] = algorithm.config.reposition_alpha
        result["learner_alpha"] = learner.config.reposition_alpha
        result["cursor"] = algorithm._cursor
        result["entropies"] = learner._updater.trigger.state_dict()["entropies"]
        if os.environ.get("WAIT_IN_ITERATION") == str(result["training_iteration"]):
            time.sleep(3600)


class KillLearner(RLlibCallback):
    """Kills the learner of the first trial that gets there, at the end of its iteration 2."""

    def on_train_result(
        self, *, algorithm: Algorithm, result: dict[str, Any], **kwargs: Any
    ) -> None:
        result["score"] = algorithm.config.reposition_alpha
        result["cursor"] = algorithm._cursor
        if result["training_iteration"] == 2:
            with suppress(FileExistsError):
                Path(algorithm.config.env_config["order"]).with_name("killed").mkdir()
                algorithm.learner_group.foreach_learner(lambda learner: os._exit(1))


def sweep_config(model: str) -> SFPOConfig:
    """A config for quick trials in one process each."""
    return (
        SFPOConfig()
        .environment(ECHO)
        .rl_module(model_config={"model": model})
        .env_runners(num_env_runners=0, rollout_engine="transformers", sampling={"max_tokens": 4})
        .training(
            lr=1e-3,
            train_batch_size_per_learner=16,
            group_size=4,
            entropy_window=WINDOW,
            entropy_z_threshold=1.0,
        )
        .callbacks(Report)
        .debugging(seed=0)
    )


def main(action: str, folder: str, model: str) -> None:
    """Runs the sweep, or goes on with it."""
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    if action == "fit":
        config = sweep_config(model)
        config.training(reposition_alpha=tune.grid_search([0.5, 1.0]))
        tuner = tune.Tuner(
            "SFPO",
            param_space=config,
            tune_config=tune.TuneConfig(max_concurrent_trials=1),
            run_config=tune.RunConfig(
                name=Path(folder).name,
                storage_path=str(Path(folder).parent),
                stop={"training_iteration": ITERATIONS},
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
                verbose=0,
            ),
        )
    else:
        tuner = tune.Tuner.restore(folder, trainable="SFPO")
    tuner.fit()


if __name__ == "__main__":
    main(*sys.argv[1:])
