"""An adapter served by vLLM against the same adapter in peft, in float32.

One algorithm with one remote runner for the whole file: vLLM changes the process it runs in.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pytest
import torch

pytest.importorskip("ray")
pytest.importorskip("vllm", reason="vllm is not installed")
pytest.importorskip("peft", reason="peft is not installed")

import peft
from probes import ECHO, learned_groups, sfpo_results
from transformers import AutoModelForCausalLM

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines.vllm_engine import LORA_RANKS
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.token_trace import TokenTrace

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5  # mean |difference| of log-probs
TEMPERATURE = 0.7
LONG_PROMPT = 300  # two blocks of the prefix cache, and then some
# Of no rank that vLLM has, and of two ranks and scales.
LORA = {
    "r": 3,
    "lora_alpha": 12,
    "target_modules": "all-linear",
    "rank_pattern": {"q_proj": 9},
    "use_rslora": True,
}

Sequences = tuple[list[list[int]], list[int]]
Result = TypeVar("Result")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_char_llama(
        tmp_path_factory.mktemp("vllm_model"),
        alphabet="0123456789+=",
        hidden_size=64,
        num_layers=2,
        max_length=512,
    )


@pytest.fixture(scope="module")
def algo(ray_cluster: None, model: Path) -> Iterator[SFPO]:
    """Trains on long prompts, with steps so large that old weights show."""
    config = (
        SFPOConfig()
        .environment(ECHO, env_config={"prompt_length": LONG_PROMPT})
        .rl_module(model_config={"model": str(model), "lora": LORA})
        .env_runners(
            num_env_runners=1,
            rollout_engine="vllm",
            sampling={"max_tokens": 6, "temperature": TEMPERATURE},
            engine_kwargs={
                "max_model_len": 512,
                "kv_cache_memory_bytes": 1 << 26,
                "max_num_seqs": 32,
            },
        )
        .training(lr=2e-2, train_batch_size_per_learner=16, group_size=4, entropy_z_threshold=None)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    yield algo
    algo.stop()


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    """Dialogues, the long ones with a common beginning, and the lengths of their prompts."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(3, 15, LONG_PROMPT - 20).tolist()
    prompts = [beginning + rng.integers(3, 15, 20).tolist() for _ in range(3)]
    prompts += [rng.integers(3, 15, length).tolist() for length in (1, 5, 257)]
    return [prompt + rng.integers(1, 15, 6).tolist() for prompt in prompts], list(map(len, prompts))


def in_runner(algo: SFPO, function: Callable[[GroupEnvRunner], Result]) -> Result:
    return algo.env_runner_group.foreach_env_runner(function, local_env_runner=False)[0]


def engine_logprobs(algo: SFPO, sequences: Sequences) -> list[np.ndarray]:
    return in_runner(algo, lambda runner: runner.engine_logprobs(*sequences))


def by_peft(model: Path, adapter: Path, sequences: Sequences) -> list[np.ndarray]:
    """What peft says, without a cache."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    lm = peft.PeftModel.from_pretrained(lm, adapter).eval()
    result = []
    for ids, prompt_len in zip(*sequences, strict=True):
        with torch.no_grad():
            logits = lm(torch.tensor([ids])).logits[0, prompt_len - 1 : -1] / TEMPERATURE
        reply = torch.tensor(ids[prompt_len:]).unsqueeze(1)
        result.append(logits.log_softmax(dim=-1).gather(1, reply).squeeze(1).numpy())
    return result


def mean_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return float(np.abs(np.concatenate(one) - np.concatenate(other)).mean())


def test_ranks_are_those_that_vllm_has() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == LORA_RANKS


def test_logprobs_are_those_of_peft_after_each_sync(
    algo: SFPO, model: Path, sequences: Sequences, tmp_path: Path
) -> None:
    """Also of the same long prompts: a prefix cache that outlives the adapter would show."""
    before = engine_logprobs(algo, sequences)
    expected = by_peft(model, algo.save_pretrained(tmp_path / "0"), sequences)
    assert mean_difference(before, expected) <= TOLERANCE
    results = []
    with learned_groups(algo) as batches:
        for iteration in (1, 2):
            results.append(sfpo_results(algo.train()))
            after = engine_logprobs(algo, sequences)
            expected = by_peft(model, algo.save_pretrained(tmp_path / str(iteration)), sequences)
            assert mean_difference(after, expected) <= TOLERANCE
            assert mean_difference(after, before) > 100 * TOLERANCE
            before = after
    # What was sampled had the log-probs that the learner finds at the same weights.
    assert all(result["engine_logp_diff"] < TOLERANCE for result in results)
    assert all(result["pass_0"]["grad_norm"] > 0 for result in results)
    lengths = {len(TokenTrace.of(e).token_ids) for groups in batches for g in groups for e in g}
    assert min(lengths) > LONG_PROMPT


def test_vllm_serves_the_folder_that_is_saved(
    algo: SFPO, sequences: Sequences, tmp_path: Path
) -> None:
    """Beside the policy, which has the same weights: both say the same."""
    folder = str(algo.save_pretrained(tmp_path))
    policy = engine_logprobs(algo, sequences)

    def serve(runner: GroupEnvRunner) -> list[np.ndarray]:
        from vllm.lora.request import LoRARequest

        adapter: Any = runner._engine._adapter
        adapter.request = LoRARequest("saved", 2, folder)
        try:
            return runner.engine_logprobs(*sequences)
        finally:
            adapter.request = LoRARequest("policy", 1, adapter._folder.name)

    assert mean_difference(in_runner(algo, serve), policy) <= TOLERANCE
    # The policy, which had to make room, is there again.
    assert mean_difference(engine_logprobs(algo, sequences), policy) <= TOLERANCE


def test_nothing_is_left_of_the_adapter_after_close(algo: SFPO) -> None:
    """Comes last: it takes the runner's engine away."""

    def close(runner: GroupEnvRunner) -> tuple[bool, bool]:
        folder = Path(runner._engine._adapter._folder.name)
        there = (folder / "adapter_model.safetensors").exists()
        runner._engine.close()
        return there, folder.exists()

    assert in_runner(algo, close) == (True, False)
