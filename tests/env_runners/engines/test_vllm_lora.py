"""An adapter served by vLLM against the same adapter in peft, in float32.

One algorithm with one remote runner for the whole file: vLLM changes the process it runs in.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

pytest.importorskip("ray")
pytest.importorskip("peft", reason="peft is not installed")

import peft
from probes import learned_groups, sfpo_results
from transformers import AutoModelForCausalLM
from vllm_probes import (
    LONG_PROMPT,
    TEMPERATURE,
    TOLERANCE,
    Sequences,
    in_runner,
    long_prompts_config,
    make_sequences,
    mean_difference,
    plain_logprobs,
)

from sfpo_rllib import SFPO
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines.vllm_engine import LORA_RANKS
from sfpo_rllib.token_trace import TokenTrace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_installed")]

# Of no rank that vLLM has, and of two ranks and scales.
LORA = {
    "r": 3,
    "lora_alpha": 12,
    "target_modules": "all-linear",
    "rank_pattern": {"q_proj": 9},
    "use_rslora": True,
}


@pytest.fixture(scope="module")
def algo(ray_cluster: None, vllm_installed: None, vllm_model: Path) -> Iterator[SFPO]:
    algo = long_prompts_config(vllm_model, lr=2e-2, lora=LORA).build_algo()
    yield algo
    algo.stop()


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return make_sequences()


def engine_logprobs(algo: SFPO, sequences: Sequences) -> list[np.ndarray]:
    return in_runner(algo, lambda runner: runner.engine_logprobs(*sequences))


def by_peft(model: Path, adapter: Path, sequences: Sequences) -> list[np.ndarray]:
    """What peft says."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return plain_logprobs(
        peft.PeftModel.from_pretrained(lm, adapter).eval(), sequences, TEMPERATURE
    )


def test_ranks_are_those_that_vllm_has() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == LORA_RANKS


def test_logprobs_are_those_of_peft_after_each_sync(
    algo: SFPO, vllm_model: Path, sequences: Sequences, tmp_path: Path
) -> None:
    """Also of the same long prompts: a prefix cache that outlives the adapter would show."""
    before = engine_logprobs(algo, sequences)
    expected = by_peft(vllm_model, algo.save_pretrained(tmp_path / "0"), sequences)
    assert mean_difference(before, expected) <= TOLERANCE
    results = []
    with learned_groups(algo) as batches:
        for iteration in (1, 2):
            results.append(sfpo_results(algo.train()))
            after = engine_logprobs(algo, sequences)
            expected = by_peft(
                vllm_model, algo.save_pretrained(tmp_path / str(iteration)), sequences
            )
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
