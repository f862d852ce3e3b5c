"""SFPO on Qwen2.5-0.5B-Instruct and GSM8K, learner and vLLM engine sharing one GPU.

This example:
- reads the problems from JSONL files, one object with `problem` and `answer` a line
- gives the learner and the engine half of the GPU each, and bounds the engine's memory
- evaluates one greedy reply to each test problem every 10 iterations

How to run this script
----------------------
`python gsm8k_qwen2_5_0_5b.py --dataset=gsm8k_train.jsonl --test-dataset=gsm8k_test.jsonl`

Killed, preempted or stopped with Ctrl-C, it goes on when it is run again; its checkpoints,
progress.csv and TensorBoard's events are in `--output` (runs/gsm8k).

On a GPU with less memory, lower --max-tokens-per-micro-batch first (logits of 151,936 tokens are
most of the learner's memory), then --engine-memory, the engine's part of the whole GPU.

Results to expect
-----------------
Not run on a GPU: the config is validated and its resource request tested, no more.
"""

import argparse
from pathlib import Path

import gymnasium

from sfpo_rllib import SFPOConfig, run
from sfpo_rllib.progress import Progress

ENV = "sfpo_envs:sfpo/MathReasoning-v0"
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


def make_config(
    dataset: str,
    test_dataset: str,
    *,
    model: str = MODEL,
    engine_memory: float = 0.4,
    max_tokens_per_micro_batch: int = 8192,
) -> SFPOConfig:
    """Returns the config.

    Args:
        dataset: JSONL file of the training problems.
        test_dataset: JSONL file of the test problems.
        model: A hub id or a transformers folder.
        engine_memory: The engine's part of the GPU's memory; the learner needs the rest.
        max_tokens_per_micro_batch: Padded tokens of one forward pass of the learner.
    """
    env_config = {"dataset": dataset, "prompt_template": "qwen_boxed", "reward": "official_repo"}
    test_env = gymnasium.make(ENV, dataset=test_dataset).unwrapped
    return (
        SFPOConfig()
        .environment(ENV, env_config=env_config)
        .rl_module(
            model_config={"model": model, "dtype": "bfloat16", "gradient_checkpointing": True}
        )
        .env_runners(
            num_env_runners=1,
            num_gpus_per_env_runner=0.5,
            rollout_engine="vllm",
            engine_kwargs={"max_model_len": 1024, "gpu_memory_utilization": engine_memory},
            sampling={"temperature": 1.0, "max_tokens": 512},
        )
        .learners(num_learners=1, num_gpus_per_learner=0.5)
        .training(
            preset="paper",
            lr=1e-6,
            train_batch_size_per_learner=512,  # 64 problems x 8
            group_size=8,
            max_tokens_per_micro_batch=max_tokens_per_micro_batch,
        )
        .evaluation(
            evaluation_interval=10,
            evaluation_duration=test_env.num_problems,
            evaluation_config={
                "env_config": {"dataset": test_dataset},
                "group_size": 1,
                "sampling": {"temperature": 0.0, "max_tokens": 512},
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
    parser.add_argument("--model", default=MODEL, help="hub id or absolute path of a folder")
    parser.add_argument("--engine-memory", type=float, default=0.4)
    parser.add_argument("--max-tokens-per-micro-batch", type=int, default=8192)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--checkpoint-every", type=int, default=20, help="iterations")
    parser.add_argument("--output", type=Path, default=Path("runs/gsm8k"))
    return parser


def main() -> None:
    """Trains, or goes on, until --iterations are done."""
    args = make_parser().parse_args()
    config = make_config(
        str(args.dataset.resolve()),  # workers have working directories of their own
        str(args.test_dataset.resolve()),
        model=args.model,
        engine_memory=args.engine_memory,
        max_tokens_per_micro_batch=args.max_tokens_per_micro_batch,
    )
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
