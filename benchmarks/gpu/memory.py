"""What a learner's update takes of a GPU, next to what the preflight estimates.

How to run this script
----------------------
`python -m benchmarks.gpu.memory --output=memory.json`

Llamas of random weights in the shapes of models that people train; one update by SFPO.
"""

import argparse
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from sfpo_envs import UnicodeText

from benchmarks.common import environment_record, write_json
from benchmarks.learner.rollouts import SMOLLM2, Workload
from sfpo_rllib import SFPOConfig

QWEN_0_5B = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
SHAPES = {
    "SmolLM2-135M": SMOLLM2 | {"max_position_embeddings": 4096},
    "Qwen2.5-0.5B": QWEN_0_5B,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, packed": {"dtype": "bfloat16", "packing": True},
    "bfloat16, gradient checkpointing": {"dtype": "bfloat16", "gradient_checkpointing": True},
}


def measure(name: str, model_config: dict[str, Any]) -> dict[str, Any]:
    """Peak of an update as the allocator counts it, the estimate, and seconds a pass."""
    workload = Workload(
        name, SHAPES[name], prompts=16, group_size=8, prompt_tokens=128, completion_tokens=512
    )
    with tempfile.TemporaryDirectory() as folder:
        model = workload.build_model(Path(folder))
        config = (
            SFPOConfig()
            .rl_module(model_config={"model": str(model), **model_config})
            .env_runners(sampling={"max_tokens": workload.completion_tokens})
            .training(
                lr=1e-6,
                fast_steps=1,
                train_batch_size_per_learner=workload.num_completions,
                group_size=workload.group_size,
                entropy_z_threshold=None,
                max_tokens_per_micro_batch=16_384,
                max_engine_logp_diff=None,  # there is no engine
            )
            .learners(num_learners=0, num_gpus_per_learner=1)
        )
        estimate = config.preflight()
        space = UnicodeText(1)
        learner = config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})
        learner.build()
        batch = workload.rollouts(
            learner.module[DEFAULT_MODULE_ID].unwrapped().lm.config.vocab_size
        )
        batch = {key: column.cuda() for key, column in batch.items()}
        learner._update({DEFAULT_MODULE_ID: dict(batch)})
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        learner._update({DEFAULT_MODULE_ID: dict(batch)})
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated()
    del learner
    gc.collect()
    torch.cuda.empty_cache()
    tokens = int(batch["attention_mask"].sum())
    return {
        "model": name,
        "parameters": estimate.model.num_parameters,
        "estimated_bytes": estimate.learner.peak,
        "measured_bytes": peak,
        "estimated_over_measured": estimate.learner.peak / peak,
        "tokens": tokens,
        "tokens_per_s_a_pass": 2 * tokens / seconds,
    }


def main() -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in SHAPES:
        for variant, model_config in VARIANTS.items():
            try:
                row = {"variant": variant, **measure(name, model_config)}
            except torch.OutOfMemoryError as error:
                row = {"variant": variant, "model": name, "error": str(error).splitlines()[0]}
            rows.append(row)
            print(row, flush=True)
            write_json(args.output, {"environment": environment_record(), "rows": rows})


if __name__ == "__main__":
    main()
