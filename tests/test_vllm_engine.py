"""The vLLM engine against plain transformers at the same weights, in float32.

One algorithm with one remote runner for the whole file: vLLM changes the process it runs in.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

pytest.importorskip("ray")
pytest.importorskip("vllm", reason="vllm is not installed")

from probes import ECHO, learned_groups, sfpo_results
from transformers import AutoModelForCausalLM

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import GenerationRequest, SamplingSettings, make_engine
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.token_trace import TokenTrace

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5  # mean |difference| of log-probs
TEMPERATURE = 0.7  # of training
LONG_PROMPT = 300  # two blocks of the prefix cache, and then some
ENGINE_KWARGS = {"max_model_len": 512, "kv_cache_memory_bytes": 1 << 26, "max_num_seqs": 32}

Result = TypeVar("Result")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_char_llama(
        tmp_path_factory.mktemp("vllm_model"),
        alphabet="0123456789+=",
        hidden_size=64,
        num_layers=2,
        max_length=512,
        tie_embeddings=True,
    )


@pytest.fixture(scope="module")
def algo(ray_cluster: None, model: Path) -> Iterator[SFPO]:
    """Trains on long prompts, with steps so large that old weights show."""
    config = (
        SFPOConfig()
        .environment(ECHO, env_config={"prompt_length": LONG_PROMPT})
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            num_env_runners=1,
            rollout_engine="vllm",
            sampling={"max_tokens": 6, "temperature": TEMPERATURE},
            engine_kwargs=ENGINE_KWARGS,
        )
        .training(lr=1e-2, train_batch_size_per_learner=16, group_size=4, entropy_z_threshold=None)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    yield algo
    algo.stop()


@pytest.fixture(scope="module")
def sequences() -> tuple[list[list[int]], list[int]]:
    """Dialogues, the long ones with a common beginning, and the lengths of their prompts."""
    rng = np.random.default_rng(0)
    beginning = rng.integers(3, 15, LONG_PROMPT - 20).tolist()
    prompts = [beginning + rng.integers(3, 15, 20).tolist() for _ in range(3)]
    prompts += [rng.integers(3, 15, length).tolist() for length in (1, 5, 257)]
    return [prompt + rng.integers(1, 15, 6).tolist() for prompt in prompts], list(map(len, prompts))


def in_runner(algo: SFPO, function: Callable[[GroupEnvRunner], Result]) -> Result:
    return algo.env_runner_group.foreach_env_runner(function, local_env_runner=False)[0]


def reference_logprobs(
    model: Path,
    weights: dict[str, torch.Tensor] | None,
    sequences: tuple[list[list[int]], list[int]],
    temperature: float,
) -> list[np.ndarray]:
    """What plain transformers says, without a cache."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if weights is not None:
        lm.load_state_dict(weights)
    result = []
    for ids, prompt_len in zip(*sequences, strict=True):
        with torch.no_grad():
            logits = lm(torch.tensor([ids])).logits[0, prompt_len - 1 : -1] / temperature
        reply = torch.tensor(ids[prompt_len:]).unsqueeze(1)
        result.append(logits.log_softmax(dim=-1).gather(1, reply).squeeze(1).numpy())
    return result


def mean_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return float(np.abs(np.concatenate(one) - np.concatenate(other)).mean())


def engine_logprobs(algo: SFPO, sequences: Any, temperature: float) -> list[np.ndarray]:
    if temperature == TEMPERATURE:
        return in_runner(algo, lambda runner: runner.engine_logprobs(*sequences))
    sampling = SamplingSettings(temperature=temperature)
    return in_runner(algo, lambda runner: runner._engine.logprobs(*sequences, sampling))


def test_logprobs_are_those_of_transformers_before_and_after_training(
    algo: SFPO, model: Path, sequences: tuple[list[list[int]], list[int]]
) -> None:
    """Also of the same long prompts: a prefix cache that outlives the weights would show."""
    before = {}
    for temperature in (1.0, TEMPERATURE):
        before[temperature] = engine_logprobs(algo, sequences, temperature)
        expected = reference_logprobs(model, algo.get_module_weights(), sequences, temperature)
        assert mean_difference(before[temperature], expected) <= TOLERANCE

    with learned_groups(algo) as batches:
        results = [sfpo_results(algo.train()) for _ in range(2)]

    for temperature in (1.0, TEMPERATURE):
        after = engine_logprobs(algo, sequences, temperature)
        expected = reference_logprobs(model, algo.get_module_weights(), sequences, temperature)
        assert mean_difference(after, expected) <= TOLERANCE
        assert mean_difference(after, before[temperature]) > 100 * TOLERANCE
    # What was sampled had the log-probs that the learner finds at the same weights.
    assert all(result["engine_logp_diff"] < TOLERANCE for result in results)
    assert all(result["pass_0"]["grad_norm"] > 0 for result in results)
    lengths = {len(TokenTrace.of(e).token_ids) for groups in batches for g in groups for e in g}
    assert min(lengths) > LONG_PROMPT


def test_abort_leaves_no_request(algo: SFPO) -> None:
    def abort(runner: GroupEnvRunner) -> tuple[int, bool, list, int]:
        engine = runner._engine
        for number in range(5):
            engine.submit(
                GenerationRequest(number, [3, 4, 5], number, SamplingSettings(max_tokens=200))
            )
        engine.step()
        started = engine._engine.get_num_unfinished_requests()
        engine.abort()
        unfinished = engine._engine.has_unfinished_requests()
        leftover = engine.step()
        engine.submit(GenerationRequest(7, [3, 4, 5], 0, SamplingSettings(max_tokens=1)))
        return started, unfinished, leftover, engine.step()[0].request_id

    assert in_runner(algo, abort) == (5, False, [], 7)
    algo.train()  # loading weights is refused while requests are in flight


def test_another_engine_works_after_close(
    algo: SFPO, model: Path, sequences: tuple[list[list[int]], list[int]]
) -> None:
    """Comes last: it takes the runner's engine away."""

    def replace_engine(runner: GroupEnvRunner) -> list[np.ndarray]:
        runner._engine.close()
        runner._engine = make_engine(
            "vllm",
            gpu_share=0.0,
            model=str(model),
            dtype="float32",
            stop_token_ids=[1],
            **ENGINE_KWARGS,
        )
        return runner.engine_logprobs(*sequences)

    expected = reference_logprobs(model, None, sequences, TEMPERATURE)
    assert mean_difference(in_runner(algo, replace_engine), expected) <= TOLERANCE
