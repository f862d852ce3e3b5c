"""Quickstart: SFPO teaches a character-level Llama two-digit addition, on a CPU, in minutes.

It builds a small model and warm-starts it by supervised learning on demonstrations of which more
than half have a mistake, until it adds two numbers right about one time in four. From there SFPO
trains it through a vLLM engine, on rewards alone. The model never sees the 512 sums it is
evaluated on.

How to run this script
----------------------
`make quickstart`, or in an environment of your own:
`python tuned_examples/quickstart_arithmetic.py [--rollout-engine transformers] [--iterations N]`
With `--lora-rank 8` an adapter is trained (peft), and `model_after` is the adapter's folder.

Interrupted or killed, it goes on where it was when it is run again. To begin anew, name another
folder with `--output`, or remove the old one.

Results to expect
-----------------
Accuracy on the held-out sums (sampled at temperature 1, 8 samples each) rises from about 0.25 to
about 0.70 in 150 iterations; by an adapter, which leaves the embeddings as they are, to about
0.45. `runs/quickstart` then holds summary.json, metrics as CSV
(progress.csv) and for TensorBoard, a plot (accuracy.png), a checkpoint, and the model before and
after as transformers folders. The entropy trigger is off (`entropy_z_threshold=None`): in so short
a run one noisy value would switch SFPO off for good.
"""

import argparse
import json
import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import ray
import sfpo_envs  # noqa: F401  (registers the environments)
import torch
import transformers
from tqdm import tqdm
from warm_start import WarmStart, supervised_warm_start

from sfpo_rllib import SFPO, SFPOConfig, run
from sfpo_rllib.env_runners.engines.vllm_engine import vllm_is_cpu_build
from sfpo_rllib.reporting import iteration_line, plot_accuracy
from sfpo_rllib.rl_modules.char_llama import build_char_llama

ENV = "sfpo_envs:sfpo/Arithmetic-v0"
WARM_START_ACCURACY = 0.26
MISTAKES = 0.6  # share of the demonstrations that are wrong
EVAL_SAMPLES = 8
BATCH_SIZE = 128
LR = 1.5e-4


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollout-engine", default="vllm", choices=["vllm", "transformers"])
    parser.add_argument("--num-env-runners", type=int, default=1)
    parser.add_argument("--num-learners", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--evaluation-interval", type=int, default=50)
    parser.add_argument("--lora-rank", type=int, default=0, help="0: all weights are trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    return parser.parse_args()


def make_config(model: Path, args: argparse.Namespace) -> SFPOConfig:
    """The training run, from the model in `model`."""
    lora, lr = None, LR
    if args.lora_rank:
        lora = {
            "r": args.lora_rank,
            "lora_alpha": 2 * args.lora_rank,
            "target_modules": "all-linear",
        }
        lr = 4 * LR  # the less is trained, the larger its steps may be
    config = (
        SFPOConfig()
        .environment(ENV, env_config={"num_digits": 2, "split": "train"})
        .rl_module(model_config={"model": str(model), "packing": False, "lora": lora})
        .env_runners(
            num_env_runners=args.num_env_runners,
            rollout_engine=args.rollout_engine,
            sampling={"temperature": 1.0, "max_tokens": 6},
        )
        .training(
            # Warm-up: Adam's first steps are as long as its later ones, and know less.
            lr=[[0, lr / 15], [10 * BATCH_SIZE, lr]],
            train_batch_size_per_learner=BATCH_SIZE // max(args.num_learners, 1),
            group_size=8,
            fast_steps=3,
            reposition_alpha=0.8,
            entropy_z_threshold=None,
        )
        .learners(num_learners=args.num_learners)
        .evaluation(
            evaluation_interval=args.evaluation_interval,
            evaluation_duration=512 * EVAL_SAMPLES,
            evaluation_config=SFPOConfig.overrides(
                env_config={"split": "test"}, group_size=EVAL_SAMPLES
            ),
        )
        .debugging(seed=args.seed, log_level="ERROR")
    )
    if args.rollout_engine == "vllm":
        config.env_runners(engine_kwargs={"kv_cache_memory_bytes": 1 << 28})
        if not vllm_is_cpu_build():  # engine and learner share one GPU
            config.env_runners(num_gpus_per_env_runner=0.5)
            config.learners(num_gpus_per_learner=0.5)
    return config


def warm_started_model(folder: Path, seed: int) -> WarmStart:
    """Builds the character model and teaches it to add right about one time in four.

    The folder is there whole or not at all.
    """
    unfinished = folder.with_name(f"{folder.name}_unfinished")
    state = teach(unfinished, seed)
    unfinished.rename(folder)
    return state


def teach(folder: Path, seed: int) -> WarmStart:
    """Writes the character model after its warm start."""
    build_char_llama(folder, alphabet="0123456789+=", num_layers=2, seed=seed)
    train = gym.make(ENV, num_digits=2, split="train").unwrapped
    right = [(problem.prompt, problem.answer) for problem in train.problems()]
    # Four times over, so that a sum comes with different mistakes.
    demonstrations = with_mistakes(4 * right, share=MISTAKES, seed=seed)
    with tqdm(total=100, desc="warm start", unit="%", disable=None) as bar:

        def show(state: WarmStart) -> None:
            bar.n = min(round(100 * state.accuracy / WARM_START_ACCURACY), 100)
            bar.set_postfix(steps=state.steps, accuracy=f"{state.accuracy:.3f}")

        return supervised_warm_start(
            folder,
            demonstrations,
            check_on=right[:1024],
            target_accuracy=WARM_START_ACCURACY,
            seed=seed,
            on_check=show,
        )


def with_mistakes(
    examples: list[tuple[str, str]], *, share: float, seed: int
) -> list[tuple[str, str]]:
    """The examples, with one digit of the answer changed in about `share` of them."""
    rng = random.Random(seed)

    def wrong(answer: str) -> str:
        place = rng.randrange(len(answer))
        digit = rng.choice([d for d in "0123456789" if d != answer[place]])
        return answer[:place] + digit + answer[place + 1 :]

    return [
        (prompt, wrong(answer) if rng.random() < share else answer) for prompt, answer in examples
    ]


def write_eval_file(path: Path) -> Path:
    """Writes the held-out problems: the prompt as the model sees it, and the reply before EOS."""
    test = gym.make(ENV, num_digits=2, split="test").unwrapped
    with open(path, "w") as file:
        for problem in test.problems():
            file.write(json.dumps({"prompt": problem.prompt, "answer": problem.answer}) + "\n")
    return path


def progress_bar(iterations: int) -> Callable[[SFPO, dict[str, Any]], None]:
    """Shows a bar, and a line an iteration."""
    bar = tqdm(total=iterations, desc="training", unit="iter", disable=None)

    def show(algo: SFPO, result: dict[str, Any]) -> None:
        bar.n = algo.iteration
        bar.refresh()
        tqdm.write(iteration_line(result))
        if bar.n == iterations:
            bar.close()

    return show


def main() -> None:
    """Runs the quickstart and writes its files."""
    args = parse_args()
    start = time.monotonic()
    # So small a model gains little from a second thread, and loses much where cores are busy.
    torch.set_num_threads(1)
    # Their progress bars and notices would drown ours.
    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    model = output / "model_before"

    if model.exists():
        print(f"[1/3] {model} is there: going on")
    else:
        print("[1/3] warm start: supervised steps on a character-level Llama", flush=True)
        state = warm_started_model(model, args.seed)
        print(f"      {state.steps} steps, expected accuracy {state.accuracy:.3f}", flush=True)

    print(f"[2/3] starting ray, {args.num_env_runners} env runner(s), {args.rollout_engine}")
    # Logical CPUs: an actor waits for one of its own, however few the machine has.
    ray.init(
        num_cpus=max(os.cpu_count() or 1, args.num_env_runners + args.num_learners + 1),
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    print(f"[3/3] SFPO, {args.iterations} iterations of {BATCH_SIZE} rollouts", flush=True)
    seconds = time.monotonic() - start
    try:
        done = run(
            make_config(model, args),
            output,
            iterations=args.iterations,
            evaluate_ends=True,
            on_result=progress_bar(args.iterations),
            on_end=lambda algo: algo.save_pretrained(output / "model_after"),
        )
    finally:
        ray.shutdown()
    heldout = [row["heldout_accuracy"] for row in done.rows if "heldout_accuracy" in row]
    before, after = heldout[0], heldout[-1]
    summary = {
        "algorithm": "SFPO",
        "rollout_engine": args.rollout_engine,
        "seed": args.seed,
        "iterations": done.iterations,
        "sfpo_active_iterations": sum(row.get("sfpo_active") == 1 for row in done.rows),
        "rollouts": done.iterations * BATCH_SIZE,
        "accuracy_before": before,
        "accuracy_after": after,
        "wall_seconds": round(seconds + done.seconds, 1),
        "model_before": str(model),
        "model_after": str(output / "model_after"),
        "eval_file": str(write_eval_file(output / "heldout.jsonl")),
        "eval_samples": EVAL_SAMPLES,
        "checkpoint": str(done.checkpoint),
        "plot": str(
            plot_accuracy(done.rows, output / "accuracy.png", "SFPO on two-digit addition")
        ),
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"accuracy {before:.3f} -> {after:.3f} in {summary['wall_seconds']:.0f} s\nresults:")
    for name in ("summary.json", "progress.csv", "accuracy.png", done.checkpoint, "model_after"):
        print(f"  {output / name}")
    print(f"  tensorboard --logdir {output}")


if __name__ == "__main__":
    main()
