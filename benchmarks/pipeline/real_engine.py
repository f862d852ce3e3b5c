"""vLLM beside the learner: seconds an iteration for GRPO and for SFPO, in turns and overlapped."""

import os
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pipeline.runs import Contender, compare
from sfpo_rllib import GRPOConfig
from sfpo_rllib.core import SlowFast
from sfpo_rllib.rl_modules.char_llama import build_char_llama

ENV = "sfpo_envs:sfpo/Arithmetic-v0"
# So many characters that a random model rarely ends a reply before it is cut.
ALPHABET = "0123456789+=" + "".join(chr(code) for code in range(0x4E00, 0x4E00 + 500))
MAX_TOKENS = 96
NUM_PASSES = {"GRPO": 1, "SFPO, K=3": 4, "SFPO, K=7": 8}


def make_config(model: Path, *, passes: int, max_staleness: int) -> GRPOConfig:
    """64 replies a batch, most of `MAX_TOKENS` tokens; GRPO if there is one pass."""
    config = (
        GRPOConfig()
        .environment(ENV, env_config={"num_digits": 2})
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            num_env_runners=1,
            rollout_engine="vllm",
            engine_kwargs={"kv_cache_memory_bytes": 1 << 28},
            sampling={"max_tokens": MAX_TOKENS},
            max_staleness=max_staleness,
        )
        .training(lr=1e-5, group_size=8, train_batch_size_per_learner=64)
        .debugging(seed=0, log_level="ERROR")
    )
    if passes > 1:
        config.training(update_rule=SlowFast(fast_steps=passes - 1, alpha=0.3))
    return config


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Seconds an iteration, beside what sampling and a pass take where they take turns.

    Args:
        folder: For the model.
        smoke: Whether to be quick about it.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    model = build_char_llama(folder / "model", alphabet=ALPHABET, hidden_size=64, num_layers=2)
    contenders = {
        f"{name}, S={s}": Contender(
            make_config(model, passes=passes, max_staleness=s), in_advance=s + 2
        )
        for name, passes in NUM_PASSES.items()
        for s in (0, 1)
    }
    rounds, iterations = (1, 2) if smoke else (3, 10)
    result = compare(contenders, rounds=rounds, iterations=iterations, against="GRPO, S=0")
    runs = result["runs"]
    sample_s = median(runs[f"{name}, S=0"]["stages"]["sample_s"] for name in NUM_PASSES)
    for name, passes in NUM_PASSES.items():
        learn_s = runs[f"{name}, S=0"]["stages"]["learn_s"]
        best = max(sample_s, learn_s)
        overlapped = runs[f"{name}, S=1"]["seconds"]
        runs[f"{name}, S=1"] |= {
            "best_possible_s": best,
            "above_best_possible": overlapped / best - 1,
            "pass_s": learn_s / passes,
        }
    return {"max_tokens": MAX_TOKENS, "batch": 64, "sample_s": sample_s, **result}
