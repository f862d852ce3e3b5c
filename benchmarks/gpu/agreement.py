"""Whether an engine samples from the policy that the learner trains, before and after a sync.

How to run this script
----------------------
`python -m benchmarks.gpu.agreement MODEL --engine=vllm --dtype=bfloat16`

Samples replies, moves the learner's weights, sends them to the engine and samples again. The
log-probs that came with the replies are compared with the learner's own.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from transformers import AutoTokenizer

from benchmarks.common import environment_record, write_json
from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
    make_engine,
)
from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.causal_lm import ATTENTION_MASK, INPUT_IDS, LOGP, LOSS_MASK
from sfpo_rllib.rl_modules.weights import unpack_weights

LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
PROMPT_TOKENS = 48
# Of the cache, not of the device: several checks may share it.
MEMORY = {"kv_cache_memory_bytes": 1 << 30, "gpu_memory_utilization": 0.05}
NOISE = 0.05  # relative to each weight's own spread: log-probs move by tenths of a nat


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="transformers folder")
    parser.add_argument("--engine", choices=["vllm", "transformers"], default="vllm")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--lora", action="store_true", help="train an adapter")
    parser.add_argument("--eager", action="store_true", help="vLLM starts sooner, samples slower")
    parser.add_argument("--replies", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128, help="of the longest reply")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    return parser.parse_args()


def build_module(model: str, dtype: str, lora: dict[str, Any] | None) -> CausalLMModule:
    """The learner's module, on the GPU if there is one."""
    module = CausalLMModule(
        observation_space=gym.spaces.Text(1),
        action_space=gym.spaces.Text(1),
        model_config={"model": model, "dtype": dtype, "lora": lora},
    )
    return module.to("cuda" if torch.cuda.is_available() else "cpu")


def requests(vocab_size: int, count: int, length: int) -> list[GenerationRequest]:
    """Random prompts, of which the first halves are equal: prefixes are cached."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(100, vocab_size, PROMPT_TOKENS // 2).tolist()
    sampling = SamplingSettings(max_tokens=length)
    return [
        GenerationRequest(
            request_id=i,
            prompt_ids=beginning + rng.integers(100, vocab_size, PROMPT_TOKENS // 2).tolist(),
            seed=i,
            sampling=sampling,
        )
        for i in range(count)
    ]


def sample(engine: RolloutEngine, asked: list[GenerationRequest]) -> list[Completion]:
    """Replies in the order of the requests."""
    for request in asked:
        engine.submit(request)
    replies: dict[int, Completion] = {}
    while len(replies) < len(asked):
        replies |= {reply.request_id: reply for reply in engine.step()}
    return [replies[request.request_id] for request in asked]


@torch.no_grad()
def learner_logprobs(
    module: CausalLMModule, asked: list[GenerationRequest], replies: list[Completion]
) -> list[np.ndarray]:
    """The module's log-probs of the replies."""
    device = next(module.parameters()).device
    result = []
    for start in range(0, len(asked), 16):
        rows = [
            (list(request.prompt_ids), reply.token_ids.tolist())
            for request, reply in zip(
                asked[start : start + 16], replies[start : start + 16], strict=True
            )
        ]
        width = max(len(prompt) + len(reply) for prompt, reply in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        inside = torch.zeros(len(rows), width, dtype=torch.long)
        for i, (prompt, reply) in enumerate(rows):
            end = len(prompt) + len(reply)
            ids[i, :end] = torch.tensor(prompt + reply)
            mask[i, len(prompt) : end] = True
            inside[i, :end] = 1
        batch = {INPUT_IDS: ids, ATTENTION_MASK: inside, LOSS_MASK: mask}
        logp = module.forward_train({k: v.to(device) for k, v in batch.items()})[LOGP].cpu()
        result += [logp[i][mask[i]].numpy() for i in range(len(rows))]
    return result


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> dict[str, float]:
    """Of log-probs, in nats."""
    apart = np.abs(np.concatenate(one) - np.concatenate(other))
    return {
        "mean": float(apart.mean()),
        "max": float(apart.max()),
        "tokens": len(apart),
        "tokens_a_nat_apart": int((apart > 1.0).sum()),
    }


@torch.no_grad()
def move_weights(module: CausalLMModule, lora: bool) -> None:
    """Adds noise to every trained weight."""
    torch.manual_seed(1)
    for name, param in module.named_parameters():
        if param.requires_grad:
            spread = 0.02 if lora and "lora_B" in name else NOISE * float(param.std())
            param.add_(torch.randn_like(param) * spread)


def main() -> None:
    """Measures and writes the JSON file."""
    args = parse_args()
    lora = LORA if args.lora else None
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    module = build_module(args.model, args.dtype, lora)
    engine = make_engine(
        args.engine,
        gpu_share=0.5,
        model=args.model,
        dtype=args.dtype,
        stop_token_ids=[tokenizer.eos_token_id],
        lora=lora,
        max_model_len=512,
        **(MEMORY | {"enforce_eager": args.eager} if args.engine == "vllm" else {}),
    )
    asked = requests(len(tokenizer), args.replies, args.tokens)
    sample(engine, asked)  # kernels are compiled
    start = time.perf_counter()
    before = sample(engine, asked)
    seconds = time.perf_counter() - start
    again = sample(engine, asked)
    old = learner_logprobs(module, asked, before)
    results: dict[str, Any] = {
        "at the start": difference([r.logprobs for r in before], old),
        "tokens_per_s": sum(len(r.token_ids) for r in before) / seconds,
        "equal_replies_at_equal_seeds": float(
            np.mean(
                [
                    np.array_equal(a.token_ids, b.token_ids)
                    for a, b in zip(before, again, strict=True)
                ]
            )
        ),
    }
    move_weights(module, args.lora)
    start = time.perf_counter()
    engine.load_weights(unpack_weights(module.get_state(inference_only=True)))
    results["load_s"] = time.perf_counter() - start
    after = sample(engine, asked)
    new = learner_logprobs(module, asked, after)
    results["after a sync"] = difference([r.logprobs for r in after], new)
    # How far the weights were moved: a sync that did nothing would show as this.
    results["moved by"] = difference(old, learner_logprobs(module, asked, before))
    if torch.cuda.is_available():
        results["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    engine.close()
    setting = {key: getattr(args, key) for key in ("engine", "dtype", "lora", "eager")}
    write_json(args.output, {"environment": environment_record(), **setting, "results": results})
    print(args.output.stem, results)


if __name__ == "__main__":
    main()
