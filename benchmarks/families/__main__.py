"""Trains a tiny model of each family with each engine, and compares what all of them say.

`python -m benchmarks.families` writes `results/results.json`: for each family and engine how far
the engine's log-probs are from those of transformers at the weights after two iterations, and what
is saved then; or why the algorithm refuses to begin. `--families` and `--engines` choose some.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import transformers
from ray.rllib.env.env_runner import EnvRunner
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.families.even_digits import EvenDigits
from benchmarks.families.models import CONTEXT, FAMILIES, build_family
from sfpo_rllib import GRPO, GRPOConfig

RESULTS = Path(__file__).parent / "results" / "results.json"
ENGINES: dict[str, dict[str, Any]] = {
    "transformers": {},
    "vllm": {"max_model_len": CONTEXT, "kv_cache_memory_bytes": 1 << 26, "max_num_seqs": 32},
}
ITERATIONS = 2
# Lengths of prompts and replies that all are asked about.
LENGTHS = ((3, 4), (9, 4), (1, 2), (17, 5))


def given_replies() -> tuple[list[list[int]], list[int]]:
    """Random sequences and the lengths of their prompts."""
    rng = np.random.default_rng(1)
    ids = [rng.integers(3, 16, prompt + reply).tolist() for prompt, reply in LENGTHS]
    return ids, [prompt for prompt, _ in LENGTHS]


@torch.no_grad()
def by_transformers(folder: str | Path) -> list[np.ndarray]:
    """Log-probs of the replies, one after the other, without padding or cache."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    result = []
    for ids, prompt_len in zip(*given_replies(), strict=True):
        logits = model(input_ids=torch.tensor([ids]), use_cache=False)[0][0, prompt_len - 1 : -1]
        reply = torch.tensor(ids[prompt_len:]).unsqueeze(1)
        result.append(logits.log_softmax(dim=-1).gather(1, reply).squeeze(1).numpy())
    return result


def by_engine(algo: GRPO) -> list[np.ndarray]:
    """Log-probs of the replies in the runner, by the path of sampling."""

    def ask(runner: EnvRunner) -> list[np.ndarray]:
        return runner.engine_logprobs(*given_replies())

    (logprobs,) = algo.env_runner_group.foreach_env_runner(ask)
    return logprobs


def greatest_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Over all tokens."""
    return float(np.abs(np.concatenate(one) - np.concatenate(other)).max())


def make_config(model: Path, engine: str) -> GRPOConfig:
    """Steps so large that old weights show."""
    return (
        GRPOConfig()
        .environment(EvenDigits)
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            # vLLM changes the process it runs in.
            num_env_runners=int(engine == "vllm"),
            rollout_engine=engine,
            engine_kwargs=ENGINES[engine],
            sampling={"max_tokens": 6},
        )
        .training(lr=1e-2, train_batch_size_per_learner=16, group_size=4)
        .debugging(seed=0)
    )


def measure(model: Path, engine: str, folder: Path) -> dict[str, Any]:
    """Two iterations with one engine.

    Returns:
        `logp_difference`, engine against transformers on what is saved; `moved`, how far training
        moved the log-probs; `saved_difference`, the learner's weights against those saved; or
        `refused`.
    """
    config = make_config(model, engine)
    try:
        algo = config.build_algo()
    except ValueError as error:
        return {"refused": str(error)}
    try:
        before = by_engine(algo)
        for _ in range(ITERATIONS):
            algo.train()
        after = by_engine(algo)
        saved = algo.save_pretrained(folder / engine)
        weights = algo.get_module_weights()
        read = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).state_dict()
        return {
            "logp_difference": greatest_difference(after, by_transformers(saved)),
            "moved": greatest_difference(after, before),
            "saved_difference": max(
                float((read[name] - weight).abs().max()) for name, weight in weights.items()
            ),
        }
    finally:
        algo.stop()


def main() -> None:
    """Renews the entries of the families and engines that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.families:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model = build_family(name, folder / "model")
            entry = results.setdefault(name, {})
            entry["tied"] = bool(AutoConfig.from_pretrained(model).tie_word_embeddings)
            for engine in args.engines:
                entry[engine] = measure(model, engine, folder)
                print(name, engine, json.dumps(entry[engine])[:200], flush=True)
        ordered = {name: results[name] for name in FAMILIES if name in results}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main()
