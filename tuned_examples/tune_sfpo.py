"""Sweeps over SFPO's fast steps and reposition alpha with Ray Tune, by the name "SFPO".

This example:
- builds a small character-level Llama and warm-starts it on two-digit sums
- sweeps `fast_steps` and `reposition_alpha` by grid search, ASHA or population-based training
- scores a trial by its accuracy on held-out sums, and keeps checkpoints to go on from

How to run this script
----------------------
`python tune_sfpo.py`

A grid of two points:
`python tune_sfpo.py --fast-steps 3 --alphas 0.5 0.8 --iterations=10`

With trials stopped early, or whose settings change while they train:
`python tune_sfpo.py --scheduler=asha --num-samples=8`
`python tune_sfpo.py --scheduler=pbt --num-samples=4`

To go on with a sweep that was interrupted:
`python tune_sfpo.py --restore`

Results to expect
-----------------
Trials start at an accuracy of 0.25 on the training sums. Measured with seed 0 on two busy cores,
K = 3: after 5 iterations a held-out accuracy of 0.346 (alpha 0.5) and 0.354 (alpha 0.8), in 47 s
after a warm start of about 70 s. With 512 samples the standard error is 0.02: so short a sweep
ranks nothing. With `--scheduler=asha --iterations=4` two of three trials were stopped after the
first.
"""

import argparse
import os
from pathlib import Path

import gymnasium
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler
from warm_start import WarmStart, supervised_warm_start

from sfpo_rllib import SFPOConfig
from sfpo_rllib.progress import Heartbeat
from sfpo_rllib.rl_modules.char_llama import build_char_llama

ENV = "sfpo_envs:sfpo/Arithmetic-v0"
ENV_CONFIG = {"num_digits": 2, "reverse_answer": True}  # units first is easier to learn
METRIC = "evaluation/env_runners/accuracy"
NAME = "tune_sfpo"


def build_model(folder: Path, accuracy: float) -> Path:
    """Writes a character-level Llama that samples this share of the training sums right."""
    torch.set_num_threads(1)  # more are slower on matrices this small
    build_char_llama(folder, alphabet="0123456789+=", hidden_size=64, num_layers=2)
    env = gymnasium.make(ENV, **ENV_CONFIG).unwrapped
    problems = [env.problem(seed) for seed in range(env.num_problems)]
    examples = [(problem.prompt, problem.answer) for problem in problems]
    with Heartbeat("warm start") as heartbeat:

        def show(state: WarmStart) -> None:
            so_far = f"accuracy {state.accuracy:.3f} of {accuracy}"
            heartbeat.note(f"warm start, {state.steps} steps, {so_far}")

        supervised_warm_start(
            folder,
            examples,
            target_accuracy=accuracy,
            batch_size=128,
            lr=3e-3,
            on_check=show,
        )
    return folder


def make_config(model: str, *, engine: str = "transformers", batch_size: int = 128) -> SFPOConfig:
    """Returns the config that all trials share.

    Args:
        model: A transformers folder; its tokenizer must know the digits, "+" and "=".
        engine: "transformers", or "vllm" for larger models.
        batch_size: Completions of one iteration.
    """
    return (
        SFPOConfig()
        .environment(ENV, env_config=ENV_CONFIG)
        .rl_module(model_config={"model": model})
        # A trial is one process with one CPU: it samples and learns in turn.
        .env_runners(num_env_runners=0, rollout_engine=engine, sampling={"max_tokens": 4})
        .training(
            lr=2e-4,
            train_batch_size_per_learner=batch_size,
            group_size=8,
            entropy_z_threshold=None,  # all trials are to run SFPO to their end
        )
        .evaluation(
            evaluation_interval=1,
            evaluation_duration=512,
            evaluation_config={"env_config": {"split": "test"}, "group_size": 2},
        )
        .debugging(seed=0)
    )


def add_search(
    config: SFPOConfig, scheduler: str, values: dict[str, list], iterations: int
) -> TrialScheduler | None:
    """Puts the search space into the config and returns Tune's scheduler for it.

    Args:
        config: Of the trials.
        scheduler: "grid", "asha" or "pbt".
        values: What to try, by setting.
        iterations: Of a trial that runs to its end.
    """
    if scheduler == "grid":
        config.training(**{name: tune.grid_search(tried) for name, tried in values.items()})
        return None
    config.training(**{name: tune.choice(tried) for name, tried in values.items()})
    if scheduler == "asha":
        return ASHAScheduler(max_t=iterations, grace_period=max(iterations // 4, 1))
    return PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=max(iterations // 4, 1),
        hyperparam_mutations=values,
    )


def make_parser() -> argparse.ArgumentParser:
    """Returns the options of this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheduler", choices=["grid", "asha", "pbt"], default="grid")
    parser.add_argument("--fast-steps", type=int, nargs="+", default=[1, 3, 7])
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.5, 0.8, 1.0])
    parser.add_argument("--iterations", type=int, default=40, help="of each trial")
    parser.add_argument("--num-samples", type=int, default=1, help="trials of asha and pbt")
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--batch-size", type=int, default=128, help="completions an iteration")
    parser.add_argument("--warm-start-accuracy", type=float, default=0.25)
    parser.add_argument("--storage-path", type=Path, default=Path("runs"))
    parser.add_argument("--restore", action="store_true", help="go on with the sweep stored there")
    return parser


def main() -> None:
    """Runs or restores the sweep, and prints its trials, best first."""
    args = make_parser().parse_args()
    storage = args.storage_path.resolve()
    if args.restore:
        tuner = tune.Tuner.restore(str(storage / NAME), trainable="SFPO", resume_errored=True)
    else:
        model = build_model(storage / f"{NAME}_model", args.warm_start_accuracy)
        config = make_config(str(model), engine=args.engine, batch_size=args.batch_size)
        values = {"fast_steps": args.fast_steps, "reposition_alpha": args.alphas}
        scheduler = add_search(config, args.scheduler, values, args.iterations)
        tuner = tune.Tuner(
            "SFPO",
            param_space=config,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                scheduler=scheduler,
                num_samples=args.num_samples,
            ),
            run_config=tune.RunConfig(
                name=NAME,
                storage_path=str(storage),
                stop={"training_iteration": args.iterations},
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=10),
                progress_reporter=tune.CLIReporter(
                    metric_columns={"training_iteration": "iter", METRIC: "held-out accuracy"},
                    parameter_columns=list(values),
                ),
            ),
        )
    table = tuner.fit().get_dataframe()
    columns = ["config/fast_steps", "config/reposition_alpha", "training_iteration", METRIC]
    print(table[columns].sort_values(METRIC, ascending=False).to_string(index=False))


if __name__ == "__main__":
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new output ignores our progress_reporter
    main()
