"""SmolLM2-135M-Instruct learns sums asked in words, learner and vLLM on one GPU.

How to run this script
----------------------
`python -m benchmarks.gpu.training MODEL --variant=sfpo --lr=3e-6 --output=sfpo.json`

One run a process; several may share the GPU, which makes their times worthless but not their
rollouts.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from benchmarks.common import environment_record, write_json
from sfpo_rllib import GRPOConfig, SFPOConfig

VARIANTS: dict[str, tuple[type[GRPOConfig], dict[str, Any]]] = {
    "grpo": (GRPOConfig, {}),
    "grpo, 4 mini-batches": (GRPOConfig, {"minibatches_per_pass": 4}),
    "sfpo, K=3, alpha=0.8": (SFPOConfig, {"fast_steps": 3, "reposition_alpha": 0.8}),
    "sfpo, K=3, alpha=0.3": (SFPOConfig, {"fast_steps": 3, "reposition_alpha": 0.3}),
}
GREATEST = 20  # addends
NUM_TEST = 100
GROUP_SIZE = 8
BATCH_SIZE = 256


def write_problems(folder: Path) -> tuple[Path, Path]:
    """Writes sums of two numbers as JSONL files, and returns those to train and to test on."""
    sums = [(a, b) for a in range(GREATEST + 1) for b in range(GREATEST + 1)]
    random.Random(0).shuffle(sums)
    files = folder / "train.jsonl", folder / "test.jsonl"
    for file, part in zip(files, (sums[NUM_TEST:], sums[:NUM_TEST]), strict=True):
        lines = [{"problem": f"What is {a} plus {b}?", "answer": a + b} for a, b in part]
        file.write_text("\n".join(map(json.dumps, lines)))
    return files


def make_config(
    args: argparse.Namespace, dataset: Path, test_dataset: Path, *, on_gpu: bool
) -> GRPOConfig:
    """The run's config."""
    kind, training = VARIANTS[args.variant]
    share = 0.5 if on_gpu else 0.0
    config = (
        kind()
        .environment(
            "sfpo_envs:sfpo/MathReasoning-v0",
            env_config={
                "dataset": str(dataset),
                "prompt_template": "{problem} Answer with just the number.",
                "extraction": "last_number",
            },
        )
        .rl_module(
            model_config={
                "model": args.model,
                "dtype": "bfloat16" if on_gpu else "float32",
                "packing": True,
            }
        )
        .env_runners(
            num_env_runners=1,
            num_gpus_per_env_runner=share,
            rollout_engine="vllm",
            # Of the cache, not of the device: several runs may share it.
            engine_kwargs={
                "max_model_len": 256,
                "kv_cache_memory_bytes": 1 << 30,
                "gpu_memory_utilization": 0.1,
                "enforce_eager": args.eager,
            },
            sampling={"max_tokens": 16},
            sleep_while_learning=args.sleep,
        )
        .training(
            lr=args.lr,
            train_batch_size_per_learner=args.batch_size,
            group_size=GROUP_SIZE,
            **training,
        )
        .learners(num_learners=0, num_gpus_per_learner=share)
        .evaluation(
            evaluation_duration=args.eval_samples,
            evaluation_config={"env_config": {"dataset": str(test_dataset)}},
        )
        .debugging(seed=args.seed)
    )
    if kind is SFPOConfig:
        config.training(entropy_z_threshold=None)  # else a noisy value may make it GRPO
    return config


def main() -> None:
    """Trains, evaluates every tenth iteration, and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="transformers folder of SmolLM2-135M-Instruct")
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--eval-samples", type=int, default=NUM_TEST * GROUP_SIZE)
    parser.add_argument("--time-limit", type=float, default=3600.0, help="seconds of training")
    parser.add_argument("--eager", action="store_true", help="vLLM starts sooner, samples slower")
    parser.add_argument("--sleep", action="store_true", help="vLLM gives up its memory meanwhile")
    parser.add_argument("--cpu", action="store_true", help="as a rehearsal")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    ray.init(
        num_cpus=4, num_gpus=0 if args.cpu else 1, include_dashboard=False, log_to_driver=False
    )
    with tempfile.TemporaryDirectory() as folder:
        files = write_problems(Path(folder))
        algo = make_config(args, *files, on_gpu=not args.cpu).build_algo()
        curve, iterations = [], []
        start = time.perf_counter()
        for iteration in range(args.iterations + 1):
            if iteration % 10 == 0 or iteration == args.iterations:
                found = algo.evaluate()["env_runners"]["accuracy"]
                curve.append({"rollouts": iteration * args.batch_size, "accuracy": found})
                print(args.output.stem, iteration, f"{found:.3f}", flush=True)
            if iteration == args.iterations or time.perf_counter() - start > args.time_limit:
                break
            result = algo.train()
            passes = result["learners"]["default_policy"]["sfpo"]
            iterations.append(
                {
                    "accuracy": result["env_runners"]["accuracy"],
                    "engine_logp_diff": passes["engine_logp_diff"],
                    **{key: result["timers"][key] for key in ("sample", "learn", "sync_weights")},
                }
            )
        write_json(
            args.output,
            {
                "environment": environment_record(),
                "variant": args.variant,
                "lr": args.lr,
                "seed": args.seed,
                "sleep": args.sleep,
                "batch_size": args.batch_size,
                "held_out": curve,
                "iterations": iterations,
                "seconds": time.perf_counter() - start,
            },
        )
        algo.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
