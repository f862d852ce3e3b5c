"""Slow environments beside a fast engine: jobs without threads and with some, in turn."""

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.utils.annotations import override
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.alternating import alternate, ratio_of
from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)
from sfpo_rllib.env_runners.prompts import PromptFormatter
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob, RolloutResult
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.statistics import bootstrap_interval
from sfpo_rllib.token_trace import TokenTrace

STEP_S = 0.5
NUM_GROUPS, GROUP_SIZE = 8, 8
NUM_THREADS = (0, 16, 64)


class AtOnce(RolloutEngine):
    """Replies to all requests in the next step, with a digit that their random streams decide."""

    max_model_len = 100

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._digits = [tokenizer.encode(str(d), add_special_tokens=False) for d in range(10)]
        self._eos = tokenizer.eos_token_id
        self._queue: list[GenerationRequest] = []

    @override(RolloutEngine)
    def submit(self, request: GenerationRequest) -> None:
        self._queue.append(request)

    @override(RolloutEngine)
    def step(self) -> list[Completion]:
        requests, self._queue = self._queue, []
        return [self._reply(request) for request in requests]

    def _reply(self, request: GenerationRequest) -> Completion:
        tokens = np.array([*self._digits[request.seed % 10], self._eos], np.int32)
        return Completion(request.request_id, tokens, np.zeros(len(tokens), np.float32), False)

    @override(RolloutEngine)
    def abort(self) -> None:
        self._queue.clear()

    @override(RolloutEngine)
    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        pass

    @override(RolloutEngine)
    def close(self) -> None:
        self.abort()


class Slow(gym.Env):
    """Pays the digit, after a wait."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s

    @override(gym.Env)
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        super().reset(seed=seed)
        return f"{seed}=", {}

    @override(gym.Env)
    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        time.sleep(self._step_s)
        return "", float(action), True, False, {}


class Sampler:
    """Samples the same job again and again, with so many threads."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, num_env_threads: int, step_s: float
    ) -> None:
        self._num_env_threads = num_env_threads
        self._engine = AtOnce(tokenizer)
        self._formatter = PromptFormatter(tokenizer, "raw")
        self._envs = EnvPool(lambda _: Slow(step_s), {}, in_threads=num_env_threads > 0)
        self.last: RolloutResult

    def sample(self) -> None:
        """Runs the job."""
        self.last = GroupRollout(
            RolloutJob(tuple(range(NUM_GROUPS)), 0, (0,), False, 600.0),
            group_size=GROUP_SIZE,
            sampling=SamplingSettings(max_tokens=8),
            engine=self._engine,
            formatter=self._formatter,
            envs=self._envs,
            num_env_threads=self._num_env_threads,
        ).run()

    def content(self) -> list[list[int]]:
        """The tokens of the last job's episodes, in order."""
        groups = self.last.groups
        return [TokenTrace.of(e).token_ids.tolist() for seed in groups for e in groups[seed]]

    def close(self) -> None:
        """Closes the environments."""
        self._envs.close()


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Seconds of a job of 64 episodes of one step each.

    Args:
        folder: For a tokenizer.
        smoke: Whether to be quick about it.
    """
    build_char_llama(folder, alphabet="0123456789=", hidden_size=32, num_layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    step_s, rounds = (0.01, 2) if smoke else (STEP_S, 5)
    samplers = {number: Sampler(tokenizer, number, step_s) for number in NUM_THREADS}
    seconds = alternate({str(n): s.sample for n, s in samplers.items()}, rounds)["wall"]
    expected = samplers[0].content()
    result = {
        "step_s": step_s,
        "episodes": NUM_GROUPS * GROUP_SIZE,
        "rounds": rounds,
        "num_env_threads": {
            str(number): {
                "seconds": median(seconds[str(number)]),
                "seconds_interval": bootstrap_interval(seconds[str(number)]),
                "times_as_fast": ratio_of(seconds["0"], seconds[str(number)]),
                "same_episodes": sampler.content() == expected,
            }
            for number, sampler in samplers.items()
        },
    }
    for sampler in samplers.values():
        sampler.close()
    return result
