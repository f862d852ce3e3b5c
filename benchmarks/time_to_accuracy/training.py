"""One run, vLLM in a process of its own."""

import os
from pathlib import Path
from typing import Any

from benchmarks.update_rules.training import Budget, Run, follow, make_config
from benchmarks.update_rules.variants import Variant

KV_CACHE_BYTES = 1 << 28


def train(run: Run, variant: Variant, model: Path, budget: Budget) -> dict[str, Any]:
    """Trains and returns what `follow` does."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    config = make_config(run, variant, model, budget).env_runners(
        num_env_runners=1,
        rollout_engine="vllm",
        engine_kwargs={"kv_cache_memory_bytes": KV_CACHE_BYTES},
    )
    algo = config.build_algo()
    try:
        return follow(algo, budget)
    finally:
        algo.stop()
