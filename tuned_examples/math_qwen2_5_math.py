"""SFPO on Qwen2.5-Math and MATH with the settings of its paper (arXiv 2510.04072), on 8 GPUs.

This example:
- samples 256 problems x 8 replies an iteration on 4 vLLM engines, and trains on 4 learners
- takes the prompt and the reward (1, or 0.1 for a wrong answer in a box) of the published code
- evaluates every 5 iterations, as the mean over 4 replies to each problem (avg@4)
- trains the 1.5B model with a copy on each learner, the 7B model sharded over them by FSDP2
- prints what a learner and an engine need of their GPUs, and stops if that is too much

How to run this script
----------------------
`python math_qwen2_5_math.py --dataset=math_train.jsonl --test-dataset=math500.jsonl`

The 7B model, of which a whole learner (`--parallelism=ddp`) would need 213 GB:
`python math_qwen2_5_math.py --dataset=... --test-dataset=... --size=7B`

The paper takes one optimizer step a pass; its published code takes 4:
`python math_qwen2_5_math.py --dataset=... --test-dataset=... --preset=official_repo`

Killed, preempted or stopped with Ctrl-C, it goes on when it is run again with the same options; its
checkpoints, progress.csv and TensorBoard's events are in `--output` (runs/math).

With other GPUs, half of them for the engines:
`python math_qwen2_5_math.py --dataset=... --test-dataset=... --gpus=4 --gpu-memory-gb=94`

Results to expect
-----------------
Not run on a GPU: the config is validated, its resource request and its memory estimate tested, no
more. The paper reports up to 2.80 points over GRPO on the mean of six benchmarks, and its baseline
takes a quarter of SFPO's optimizer steps a batch; compare with --reposition-alpha=0 and =1 before
believing it. A process that learns loads the whole model into host memory before it keeps its
share: 30 GB each with 7B.
"""

import argparse
import sys
from pathlib import Path

import gymnasium

from sfpo_rllib import SFPOConfig, run
from sfpo_rllib.progress import Progress

ENV = "sfpo_envs:sfpo/MathReasoning-v0"
MODELS = {"1.5B": "Qwen/Qwen2.5-Math-1.5B", "7B": "Qwen/Qwen2.5-Math-7B"}
PARALLELISM = {"1.5B": "ddp", "7B": "fsdp"}
MAX_PROMPT, MAX_REPLY = 1536, 2560


def make_config(
    dataset: str,
    test_dataset: str,
    *,
    model: str = MODELS["1.5B"],
    parallelism: str = "ddp",
    preset: str = "paper",
    reposition_alpha: float = 0.8,
    num_gpus: int = 8,
) -> SFPOConfig:
    """Returns the config.

    Args:
        dataset: JSONL file of the training problems; those without an answer are dropped.
        test_dataset: JSONL file of the test problems.
        model: A hub id or a transformers folder.
        parallelism: "ddp", or "fsdp" to share one model among the learners.
        preset: "paper" or "official_repo".
        reposition_alpha: 0 is GRPO, 1 is K + 1 passes over each batch.
        num_gpus: Half of them for engines, half for learners.
    """
    half = num_gpus // 2
    test_env = gymnasium.make(ENV, dataset=test_dataset).unwrapped
    return (
        SFPOConfig()
        .environment(
            ENV,
            env_config={
                "dataset": dataset,
                "skip_blank": True,
                "prompt_template": "sfpo",
                "reward": "official_repo",
            },
        )
        .rl_module(
            model_config={"model": model, "dtype": "bfloat16", "gradient_checkpointing": True}
        )
        .env_runners(
            num_env_runners=half,
            num_gpus_per_env_runner=1,
            rollout_engine="vllm",
            engine_kwargs={"max_model_len": MAX_PROMPT + MAX_REPLY, "gpu_memory_utilization": 0.9},
            sampling={"temperature": 1.0, "max_tokens": MAX_REPLY},
        )
        .learners(num_learners=half, num_gpus_per_learner=1, parallelism=parallelism)
        .training(
            preset=preset,
            fast_steps=3,
            reposition_alpha=reposition_alpha,
            lr=1e-6,
            clip_param=0.2,
            train_batch_size_per_learner=256 * 8 // half,
            group_size=8,
            max_tokens_per_micro_batch=8192,  # the logits of 151,936 tokens need most of the memory
        )
        .evaluation(
            evaluation_interval=5,
            evaluation_duration=4 * test_env.num_problems,
            evaluation_config={
                "env_config": {"dataset": test_dataset},
                "group_size": 4,
                "sampling": {"temperature": 1.0, "top_p": 0.7, "max_tokens": MAX_REPLY},
            },
        )
        .debugging(seed=0)
    )


def make_parser() -> argparse.ArgumentParser:
    """Returns the options of this script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", type=Path, required=True, help="JSONL file of training problems"
    )
    parser.add_argument(
        "--test-dataset", type=Path, required=True, help="JSONL file of test problems"
    )
    parser.add_argument("--size", choices=list(MODELS), default="1.5B")
    parser.add_argument("--model", help="another one: hub id or absolute path of a folder")
    parser.add_argument("--parallelism", choices=["ddp", "fsdp"], help="instead of the size's own")
    parser.add_argument("--gpus", type=int, choices=[2, 4, 8, 16], default=8)
    parser.add_argument("--gpu-memory-gb", type=float, default=80.0, help="of each, in 10^9 bytes")
    parser.add_argument("--preset", choices=["paper", "official_repo"], default="paper")
    parser.add_argument("--reposition-alpha", type=float, default=0.8)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--checkpoint-every", type=int, default=10, help="iterations")
    parser.add_argument("--output", type=Path, default=Path("runs/math"))
    return parser


def main() -> None:
    """Trains, or goes on, until --iterations are done."""
    args = make_parser().parse_args()
    config = make_config(
        str(args.dataset.resolve()),  # workers have working directories of their own
        str(args.test_dataset.resolve()),
        model=args.model or MODELS[args.size],
        parallelism=args.parallelism or PARALLELISM[args.size],
        preset=args.preset,
        reposition_alpha=args.reposition_alpha,
        num_gpus=args.gpus,
    )
    estimate = config.preflight(device_memory_gb=args.gpu_memory_gb)
    print(estimate)
    if problems := list(estimate.problems()):
        sys.exit("\n".join(problems))
    with Progress(args.iterations) as progress:
        run(
            config,
            args.output,
            iterations=args.iterations,
            checkpoint_every=args.checkpoint_every,
            on_result=progress,
        )


if __name__ == "__main__":
    main()
