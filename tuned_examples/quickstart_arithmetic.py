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

Interrupted or killed, it goes on where it was when it is run again; with more `--iterations` a
finished run is lengthened. To begin anew, name another folder with `--output`. Nothing in a folder
is removed but old checkpoints of the run itself.

The plot has GRPO's curve beside SFPO's, from the same model: docs/quickstart_grpo.json, made by
`--grpo-epochs 4 --grpo-minibatches 16 --lr 3.75e-5`, the strongest GRPO on this task
(docs/update_rules.md).

Results to expect
-----------------
Accuracy on the held-out sums (sampled at temperature 1, 8 samples each) rises from about 0.25 to
about 0.70 in 150 iterations; by an adapter, which leaves the embeddings as they are, to about
0.45. `runs/quickstart` then holds summary.json, progress.csv, a plot (accuracy.png), checkpoints,
and the model before and after as transformers folders. The entropy trigger is off
(`entropy_z_threshold=None`): in so short a run one noisy value would switch SFPO off for good.
"""

from loading import loaded  # isort: skip  (before what takes its time)

import argparse
import json
import logging
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import ray
import sfpo_envs  # noqa: F401  (registers the environments)
import torch
import transformers
from warm_start import WarmStart, supervised_warm_start

from sfpo_rllib import GRPOConfig, RunResult, SFPOConfig, run
from sfpo_rllib.accuracy_plot import Curve, plot_accuracy
from sfpo_rllib.core import MultiEpoch, Single
from sfpo_rllib.env_runners.engines.vllm_engine import vllm_is_cpu_build
from sfpo_rllib.progress import INDENT, Heartbeat, Progress
from sfpo_rllib.ray_start import RayDidNotStart, start_ray
from sfpo_rllib.reporting import replacing
from sfpo_rllib.rl_modules.char_llama import build_char_llama

ENV = "sfpo_envs:sfpo/Arithmetic-v0"
WARM_START_ACCURACY = 0.26
MISTAKES = 0.6  # share of the demonstrations that are wrong
EVAL_SAMPLES = 8
BATCH_SIZE = 128
LR = 1.5e-4
NUM_HELD_OUT = 512
GRPO_CURVES = Path(__file__).resolve().parents[1] / "docs" / "quickstart_grpo.json"


def parse_args(options: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line, or these options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollout-engine", default="vllm", choices=["vllm", "transformers"])
    parser.add_argument("--num-env-runners", type=int, default=1)
    parser.add_argument("--num-learners", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--evaluation-interval", type=int, default=50)
    parser.add_argument("--lora-rank", type=int, default=0, help="0: all weights are trained")
    parser.add_argument("--lr", type=float, help=f"{LR} by default, or 4 times that of an adapter")
    parser.add_argument("--grpo-epochs", type=int, default=0, help="GRPO; each batch so many times")
    parser.add_argument("--grpo-minibatches", type=int, default=1, help="optimizer steps a pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    return parser.parse_args(options)


def make_config(model: Path, args: argparse.Namespace) -> GRPOConfig:
    """The training run, from the model in `model`."""
    lora, lr = None, args.lr or LR
    if args.lora_rank:
        lora = {
            "r": args.lora_rank,
            "lora_alpha": 2 * args.lora_rank,
            "target_modules": "all-linear",
        }
        lr = args.lr or 4 * LR  # the less is trained, the larger its steps may be
    config = (
        algorithm_config(args)
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
        )
        .learners(num_learners=args.num_learners)
        .evaluation(
            evaluation_interval=args.evaluation_interval,
            evaluation_duration=NUM_HELD_OUT * EVAL_SAMPLES,
            evaluation_config=GRPOConfig.overrides(
                env_config={"split": "test"}, group_size=EVAL_SAMPLES
            ),
        )
        .reporting(record_rollouts=4, show_replies_every=25)
        .debugging(seed=args.seed, log_level="ERROR")
    )
    if args.rollout_engine == "vllm":
        config.env_runners(engine_kwargs={"kv_cache_memory_bytes": 1 << 28})
        if not vllm_is_cpu_build():  # engine and learner share one GPU
            config.env_runners(num_gpus_per_env_runner=0.5)
            config.learners(num_gpus_per_learner=0.5)
    return config


def algorithm_config(args: argparse.Namespace) -> GRPOConfig:
    """SFPO, or GRPO with each batch used so many times."""
    if args.grpo_epochs:
        rule = MultiEpoch(args.grpo_epochs) if args.grpo_epochs > 1 else Single()
        minibatches = args.grpo_minibatches
        return GRPOConfig().training(update_rule=rule, minibatches_per_pass=minibatches)
    return SFPOConfig().training(fast_steps=3, reposition_alpha=0.8, entropy_z_threshold=None)


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
    with Heartbeat("warm start") as heartbeat:

        def show(state: WarmStart) -> None:
            so_far = f"accuracy {state.accuracy:.3f} of {WARM_START_ACCURACY}"
            heartbeat.note(f"warm start, {state.steps} steps, {so_far}")

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


@contextmanager
def stderr_hidden() -> Iterator[None]:
    """Hides what Ray's C++ part greets with; what goes wrong is an exception."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def start_ray_quietly(args: argparse.Namespace) -> None:
    """Starts ray, with its greeting hidden.

    Raises:
        SystemExit: If it does not start, with the reason in one line.
    """
    try:
        with stderr_hidden():
            start_ray(
                say=lambda line: print(f"{INDENT}{line}", flush=True),
                # Logical CPUs: an actor waits for its own, however few the machine has.
                num_cpus=max(os.cpu_count() or 1, args.num_env_runners + args.num_learners + 1),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except RayDidNotStart as error:
        sys.exit(f"quickstart: {error}")


def train(args: argparse.Namespace, output: Path) -> tuple[RunResult, float]:
    """Makes the model, unless it is there, and trains it; returns the seconds spent before, too."""
    start = time.monotonic()
    print("[1/3] starting ray", flush=True)
    with Heartbeat("starting ray"):
        start_ray_quietly(args)
    try:
        model = output / "model_before"
        if model.exists():
            print(f"[2/3] warm start: {model} is there", flush=True)
        else:
            print("[2/3] warm start: supervised steps on a character-level Llama", flush=True)
            state = warm_started_model(model, args.seed)
            print(f"{INDENT}{state.steps} steps, expected accuracy {state.accuracy:.3f}")
        config = make_config(model, args)
        rollouts = f"{args.iterations} iterations of {BATCH_SIZE} rollouts"
        print(f"[3/3] {config.algo_class.__name__}, {rollouts}, {args.rollout_engine}", flush=True)
        seconds = time.monotonic() - start
        with Progress(args.iterations) as progress:
            done = run(
                config,
                output,
                iterations=args.iterations,
                evaluate_ends=True,
                on_result=progress,
                on_end=lambda algo: algo.save_pretrained(output / "model_after"),
            )
        return done, seconds
    finally:
        with Heartbeat("stopping ray"):
            ray.shutdown()


def plot(done: RunResult, args: argparse.Namespace) -> Path:
    """Plots the run, and GRPO's beside it where they began with the same model and problems."""
    if args.grpo_epochs:
        label = f"GRPO, {args.grpo_epochs} epochs x {args.grpo_minibatches}"
        curves = [Curve(label, done.rows)]
    else:
        curves = [Curve("SFPO, K=3, alpha=0.8", done.rows)]
        if not args.lora_rank and args.seed == 0 and GRPO_CURVES.exists():
            stored = json.loads(GRPO_CURVES.read_text())["runs"]
            curves += [Curve(run["label"], run["rows"]) for run in stored]
    title = "Two-digit addition, from rewards alone"
    return plot_accuracy(curves, done.folder / "accuracy.png", title, num_problems=NUM_HELD_OUT)


def write_summary(done: RunResult, args: argparse.Namespace, seconds: float) -> tuple[float, float]:
    """Adds to the run's summary.json; returns the held-out accuracy before and after."""
    output = done.folder
    heldout = [row["heldout_accuracy"] for row in done.rows if "heldout_accuracy" in row]
    path = output / "summary.json"
    summary = {
        **(json.loads(path.read_text()) if path.exists() else {}),
        "command": " ".join(["python", *sys.argv]),
        "sfpo_active_iterations": sum(row.get("sfpo_active") == 1 for row in done.rows),
        "rollouts": done.iterations * BATCH_SIZE,
        "accuracy_before": heldout[0],
        "accuracy_after": heldout[-1],
        "wall_seconds": round(seconds + done.seconds, 1),
        "model_before": str(output / "model_before"),
        "model_after": str(output / "model_after"),
        "eval_file": str(write_eval_file(output / "heldout.jsonl")),
        "eval_samples": EVAL_SAMPLES,
        "plot": str(plot(done, args)),
    }
    with replacing(path) as file:
        json.dump(summary, file, indent=2)
        file.write("\n")
    return heldout[0], heldout[-1]


def main() -> None:
    """Runs the quickstart and writes its files."""
    loaded()
    args = parse_args()
    # So small a model gains little from a second thread, and loses much where cores are busy.
    torch.set_num_threads(1)
    # Their progress bars and notices would drown ours.
    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        done, seconds = train(args, output)
    except KeyboardInterrupt:
        print("Ctrl-C: stopped before training. To go on, run the same again.", file=sys.stderr)
        sys.exit(130)
    except ValueError as error:
        if not str(error).startswith("folder="):  # it holds something else
            raise
        sys.exit(f"quickstart: {error}\nName another folder with --output.")
    with Heartbeat("plotting"):
        before, after = write_summary(done, args, seconds)
    print(f"accuracy {before:.3f} -> {after:.3f} in {seconds + done.seconds:.0f} s\nresults:")
    for name in ("summary.json", "progress.csv", "accuracy.png", done.checkpoint, "model_after"):
        print(f"  {output / name}")
    command = os.path.relpath(Path(sys.executable).with_name("sfpo-rllib"))
    print(f"to see what it wrote:\n  {command} rollouts view {output}")


if __name__ == "__main__":
    main()
