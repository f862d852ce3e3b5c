"""One run: a rule at a rate from a seed, on SmolLM2-135M-Instruct."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.pool import Job
from benchmarks.update_rules.training import Budget, Run, follow
from benchmarks.update_rules.variants import Variant
from sfpo_rllib import GRPOConfig

BATCH_SIZE = 64
GROUP_SIZE = 8
EVAL_GROUP_SIZE = 4
MAX_TOKENS = 16
WARM_UP_BATCHES = 3
# Of the cache, not of the device: several runs may share it.
ENGINE = {
    "max_model_len": 256,
    "kv_cache_memory_bytes": 1 << 29,
    "gpu_memory_utilization": 0.05,
    "enforce_eager": True,  # a run is shorter than what compiling would save
}
GPU_SHARE = 0.5


def make_config(
    run: Run, variant: Variant, model: str, files: Mapping[str, Path], budget: Budget
) -> GRPOConfig:
    """GRPO with the rule, vLLM and learner in this process, prompts shared and packed.

    On a GPU, if there is one, which both share; the model then runs in bfloat16.
    """
    on_gpu = torch.cuda.is_available()
    share = GPU_SHARE if on_gpu else 0.0
    env_config = {
        "prompt_template": "{problem} Answer with just the number.",
        "extraction": "last_number",
    }
    return (
        GRPOConfig()
        .environment(
            "sfpo_envs:sfpo/MathReasoning-v0",
            env_config={**env_config, "dataset": str(files["train"])},
        )
        .rl_module(
            model_config={
                "model": model,
                "dtype": "bfloat16" if on_gpu else "float32",
                "packing": True,
            }
        )
        .learners(num_learners=0, num_gpus_per_learner=share)
        .env_runners(
            num_env_runners=0,
            num_gpus_per_env_runner=share,
            rollout_engine="vllm",
            engine_kwargs=ENGINE,
            sampling={"max_tokens": MAX_TOKENS},
        )
        .training(
            update_rule=variant.rule,
            lr=[[0, run.lr / 10], [WARM_UP_BATCHES * BATCH_SIZE, run.lr]],
            train_batch_size_per_learner=BATCH_SIZE,
            minibatches_per_pass=variant.minibatches,
            group_size=GROUP_SIZE,
            max_tokens_per_micro_batch=16_384 if on_gpu else 2048,
        )
        .evaluation(
            evaluation_duration=budget.eval_samples,
            evaluation_config=GRPOConfig.overrides(
                env_config={**env_config, "dataset": str(files["test"])},
                group_size=EVAL_GROUP_SIZE,
            ),
        )
        .debugging(seed=run.seed, log_level="ERROR")
    )


def job(run: Run, variant: Variant, model: str, files: Mapping[str, Path], budget: Budget) -> Job:
    """For the pool."""
    return Job(
        f"{run.variant}-{run.lr:g}-{run.seed}",
        {"run": asdict(run), "rule": variant.what, "budget": asdict(budget)},
        partial(train, run, variant, model, files, budget),
    )


def train(
    run: Run, variant: Variant, model: str, files: Mapping[str, Path], budget: Budget
) -> dict[str, Any]:
    """One run: what `follow` returns."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    algo = make_config(run, variant, model, files, budget).build_algo()
    try:
        return follow(algo, budget, batch_size=BATCH_SIZE)
    finally:
        algo.stop()
