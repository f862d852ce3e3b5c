"""A runner against the engine alone: the same requests by `sample` and by vLLM's own `generate`."""

import os
from pathlib import Path
from typing import Any

from benchmarks.alternating import alternate, ratio_of
from benchmarks.pipeline.real_engine import ALPHABET, ENV
from sfpo_rllib import GRPOConfig
from sfpo_rllib.env_runners.engines import GenerationRequest
from sfpo_rllib.env_runners.group_env_runner import GroupEnvRunner
from sfpo_rllib.env_runners.rollout import RolloutJob
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.token_trace import TokenTrace

NUM_GROUPS, GROUP_SIZE = 8, 8
MAX_TOKENS = (32, 256)


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """How fast a runner is beside vLLM, for short and for long replies.

    The bare call is given tokens and seeds; the runner renders prompts, steps environments, grades
    and makes episodes besides. One engine does both, in turn.

    Args:
        folder: For the model.
        smoke: Whether to be quick about it.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    model = build_char_llama(
        folder / "model",
        alphabet=ALPHABET,
        hidden_size=64 if smoke else 256,
        num_layers=2 if smoke else 4,
        max_length=MAX_TOKENS[-1] + 32,
    )
    rounds = 2 if smoke else 9
    return {
        "replies": NUM_GROUPS * GROUP_SIZE,
        "max_tokens": {
            str(max_tokens): _measure(model, max_tokens, rounds) for max_tokens in MAX_TOKENS
        },
    }


def _measure(model: Path, max_tokens: int, rounds: int) -> dict[str, Any]:
    config = (
        GRPOConfig()
        .environment(ENV, env_config={"num_digits": 2})
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            num_env_runners=0,
            rollout_engine="vllm",
            engine_kwargs={"kv_cache_memory_bytes": 1 << 29},
            sampling={"max_tokens": max_tokens},
        )
        .training(lr=1e-5, group_size=GROUP_SIZE, train_batch_size_per_learner=64)
    )
    runner = GroupEnvRunner(config=config, worker_index=0)
    try:
        engine: Any = runner._engine
        job = RolloutJob(
            tuple(range(NUM_GROUPS)),
            weights_version=runner.weights_version,
            stream=(0,),
            evaluation=False,
            timeout_s=3600.0,
        )
        requests: list[GenerationRequest] = []
        submit = engine.submit

        def submit_and_note(request: GenerationRequest) -> None:
            requests.append(request)
            submit(request)

        engine.submit = submit_and_note
        groups = runner.sample(job=job).groups
        engine.submit = submit
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        params = [
            engine._sampling_params(
                temperature=request.sampling.temperature,
                max_tokens=request.sampling.max_tokens,
                top_p=request.sampling.top_p,
                top_k=request.sampling.top_k,
                seed=request.seed,
                stop_token_ids=engine._stop,
                output_kind=engine._final_only,
                logprobs=0,
                detokenize=False,
            )
            for request in requests
        ]

        def bare() -> list[Any]:
            engine.begin_job()
            outputs: list[Any] = engine._llm.generate(prompts, params, use_tqdm=False)
            return outputs

        lengths = sorted(len(output.outputs[0].token_ids) for output in bare())
        masks = [TokenTrace.of(one).loss_mask for group in groups.values() for one in group]
        assert lengths == sorted(int(mask.sum()) for mask in masks), "the work has to be the same"
        seconds = alternate({"runner": lambda: runner.sample(job=job), "bare": bare}, rounds)
        return {
            "tokens": sum(lengths),
            "seconds": seconds,
            "speed": {c: ratio_of(of["bare"], of["runner"]) for c, of in seconds.items()},
        }
    finally:
        runner.stop()
