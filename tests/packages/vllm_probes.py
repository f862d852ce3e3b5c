"""How the tests of the vLLM engine look into it, and what it is compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from probes import ECHO
from transformers import PreTrainedModel

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.env_runners import GroupEnvRunner

TOLERANCE = 1e-5  # mean |difference| of log-probs
TEMPERATURE = 0.7  # of training
LONG_PROMPT = 300  # two blocks of the prefix cache, and then some
ENGINE_KWARGS = {"max_model_len": 512, "kv_cache_memory_bytes": 1 << 26, "max_num_seqs": 32}

Sequences = tuple[list[list[int]], list[int]]
Result = TypeVar("Result")


def long_prompts_config(model: Path, *, lr: float, **model_config: Any) -> SFPOConfig:
    """Trains on long prompts through one remote engine, with steps so large that old weights show.

    Remote, as vLLM changes the process it runs in.
    """
    return (
        SFPOConfig()
        .environment(ECHO, env_config={"prompt_length": LONG_PROMPT})
        .rl_module(model_config={"model": str(model), **model_config})
        .env_runners(
            num_env_runners=1,
            rollout_engine="vllm",
            sampling={"max_tokens": 6, "temperature": TEMPERATURE},
            engine_kwargs=ENGINE_KWARGS,
        )
        .training(lr=lr, train_batch_size_per_learner=16, group_size=4, entropy_z_threshold=None)
        .debugging(seed=0)
    )


def make_sequences() -> Sequences:
    """Dialogues, the long ones with a common beginning, and the lengths of their prompts."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(3, 15, LONG_PROMPT - 20).tolist()
    prompts = [beginning + rng.integers(3, 15, 20).tolist() for _ in range(3)]
    prompts += [rng.integers(3, 15, length).tolist() for length in (1, 5, 257)]
    return [prompt + rng.integers(1, 15, 6).tolist() for prompt in prompts], list(map(len, prompts))


def in_runner(algo: SFPO, function: Callable[[GroupEnvRunner], Result]) -> Result:
    """What the function returns in the runner."""
    return algo.env_runner_group.foreach_env_runner(function, local_env_runner=False)[0]


@torch.no_grad()
def plain_logprobs(
    lm: PreTrainedModel, sequences: Sequences, temperature: float
) -> list[np.ndarray]:
    """What a model says of the replies, without a cache."""
    result = []
    for ids, prompt_len in zip(*sequences, strict=True):
        logits = lm(torch.tensor([ids])).logits[0, prompt_len - 1 : -1] / temperature
        reply = torch.tensor(ids[prompt_len:]).unsqueeze(1)
        result.append(logits.log_softmax(dim=-1).gather(1, reply).squeeze(1).numpy())
    return result


def mean_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Over all log-probs."""
    return float(np.abs(np.concatenate(one) - np.concatenate(other)).mean())
