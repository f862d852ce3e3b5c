"""Models of many families, tiny and random, through learner, engines and export.

Each is trained for two iterations with the transformers engine; what the learner then has is sent
to vLLM too, where it runs the family.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.families.__main__ import (
    by_engine,
    by_transformers,
    given_replies,
    greatest_difference,
    make_config,
)
from benchmarks.families.models import build_family
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import SamplingSettings, make_engine
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine


class Stubborn(GroupEnvRunner):
    """Its engine takes no weights."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._engine.load_weights = self.refuse

    def refuse(self, weights: object) -> None:
        raise RuntimeError("no new weights")


ATTENTION = [
    "llama",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "opt",
    "mistral",
    "mixtral",
    "bloom",
    "falcon",
    "olmo2",
]
RECURRENT = ["mamba", "lfm2", "falcon_h1", "qwen3_next", "jamba"]
# Their states are no part of the cache, or have one of their own.
REFUSED = ["rwkv", "recurrent_gemma", "xlstm", "minimax"]
# One a way of laying weights out: plain, norms that add one, transposed, fused by head, fused by
# group, experts. The rest is in benchmarks/families, or refused, see below.
IN_VLLM = ["llama", "gemma2", "gpt2", "bloom", "falcon", "mixtral"]

Logprobs = list[np.ndarray]


@dataclass
class Trained:
    """A family after two iterations.

    Attributes:
        folder: Of the model it was trained from.
        before, after: The engine's log-probs of given replies.
        read: What transformers says of them with the model that was saved.
        payload: The weights on their way to an engine.
        unequal: Names of the weights that are not the saved ones, bit for bit.
    """

    folder: Path
    before: Logprobs
    after: Logprobs
    read: Logprobs
    payload: Any
    unequal: list[str]


@pytest.fixture(scope="module")
def trained(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Trained]:
    """`trained(family)`, once each."""
    done: dict[str, Trained] = {}

    def train(name: str) -> Trained:
        if name in done:
            return done[name]
        folder = tmp_path_factory.mktemp(name)
        model = build_family(name, folder / "model")
        algo = make_config(model, "transformers").build_algo()
        before = by_engine(algo)
        for _ in range(2):
            algo.train()
        saved = algo.save_pretrained(folder / "saved")
        state = algo.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        read = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).state_dict()
        done[name] = Trained(
            folder=model,
            before=before,
            after=by_engine(algo),
            read=by_transformers(saved),
            payload=state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID],
            unequal=[
                key
                for key, weight in algo.get_module_weights().items()
                if not torch.equal(weight, read[key])
            ],
        )
        algo.stop()
        return done[name]

    return train


@pytest.mark.parametrize("name", [*ATTENTION, *RECURRENT])
def test_engine_and_saved_model_say_what_the_learner_says(
    trained: Callable[[str], Trained], name: str
) -> None:
    run = trained(name)
    assert run.unequal == []
    assert greatest_difference(run.after, run.read) < 1e-5
    assert greatest_difference(run.after, run.before) > 0.1  # training has moved them


@pytest.fixture(scope="module")
def vllm_host(ray_cluster: None, vllm_installed: None) -> Iterator[Any]:
    from vllm_host import VLLMHost

    host = VLLMHost.remote()
    yield host
    ray.kill(host)


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_VLLM)
def test_vllm_says_what_the_learner_says_after_a_sync(
    trained: Callable[[str], Trained], vllm_host: Any, name: str
) -> None:
    """Also where embedding and output layer are one: most of these families tie them."""
    run = trained(name)
    folder = str(run.folder)
    before, after = ray.get(vllm_host.logprobs.remote(folder, run.payload, *given_replies()))
    # BLOOM's biases of distances are rounded in vLLM's kernel.
    assert greatest_difference(before, run.before) < 1e-3
    assert greatest_difference(after, run.read) < 1e-3


def test_the_tied_families_are_tied(tmp_path: Path) -> None:
    names = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "opt", "mixtral", "bloom")
    for name in names:
        folder = build_family(name, tmp_path / name)
        assert AutoConfig.from_pretrained(folder).tie_word_embeddings, name


# Refused when training would begin.


@pytest.mark.parametrize("name", REFUSED)
def test_a_family_that_the_engine_computes_otherwise_is_refused_by_name(
    ray_cluster: None, tmp_path: Path, name: str
) -> None:
    model = build_family(name, tmp_path)
    with pytest.raises(ValueError, match=f"rollout_engine='transformers': .*{name!r} model"):
        make_config(model, "transformers").build_algo()


@pytest.mark.slow
def test_a_family_that_vllm_computes_otherwise_is_refused_by_name(
    ray_cluster: None, vllm_installed: None, tmp_path: Path
) -> None:
    model = build_family("gpt_neox", tmp_path)
    with pytest.raises(ValueError, match=r"rollout_engine='vllm': .*'gpt_neox' model .* nats"):
        make_config(model, "vllm").build_algo()


@pytest.mark.parametrize("num_env_runners", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_engine_that_does_not_take_the_weights_says_why(
    ray_cluster: None, tiny_model: Path, num_env_runners: int
) -> None:
    config = make_config(tiny_model, "transformers")
    config.env_runners(num_env_runners=num_env_runners, env_runner_cls=Stubborn)
    with pytest.raises(ValueError, match=r"'llama' model.*RuntimeError: no new weights"):
        config.build_algo()


@pytest.mark.slow
def test_an_engine_that_does_not_start_in_a_remote_runner_says_why(
    ray_cluster: None, tiny_model: Path
) -> None:
    config = make_config(tiny_model, "transformers")
    config.env_runners(num_env_runners=1, engine_kwargs={"device": "nonsense"})
    with pytest.raises(ValueError, match=r"'llama' model.*device type at start.*nonsense"):
        config.build_algo()


def test_parameters_that_vllm_passes_over_are_an_error() -> None:
    from sfpo_rllib.env_runners.engines.vllm_loading import _check_all_loaded

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight  # tied: loaded under one name
    _check_all_loaded(model, {"0.weight", "0.bias"})
    _check_all_loaded(model, None)  # of a model that does not say
    with pytest.raises(RuntimeError, match=r"1 parameters, e\.g\. \['0\.bias'\]"):
        _check_all_loaded(model, {"0.weight"})


# Recurrent models in the transformers engine.


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_family("mamba", tmp_path_factory.mktemp("mamba"))


def start(folder: Path) -> TransformersEngine:
    engine = make_engine(
        "transformers",
        gpu_share=0.0,
        model=str(folder),
        dtype="float32",
        stop_token_ids=[1],
        device="cpu",
    )
    assert isinstance(engine, TransformersEngine)
    return engine


def test_prompts_of_one_length_share_a_batch_and_no_others(mamba: Path) -> None:
    from sfpo_rllib.env_runners.engines import GenerationRequest

    engine = start(mamba)
    rng = np.random.default_rng(0)
    lengths = [3, 5, 3, 5, 3]
    for number, length in enumerate(lengths):
        prompt = rng.integers(3, 16, length).tolist()
        engine.submit(GenerationRequest(number, prompt, number, SamplingSettings(max_tokens=2)))
    batches = [sorted(done.request_id for done in engine.step()) for _ in range(2)]
    assert batches == [[0, 2, 4], [1, 3]]
    assert engine.step() == []


def test_log_probs_of_given_replies_come_in_the_order_they_were_asked_in(mamba: Path) -> None:
    token_ids, prompt_lens = given_replies()
    found = start(mamba).logprobs(token_ids, prompt_lens, SamplingSettings())
    assert greatest_difference(found, by_transformers(mamba)) < 1e-5


def test_probes_are_the_same_at_each_call_and_end_unevenly(tiny_model: Path) -> None:
    from sfpo_rllib.env_runners.engines.probe import sample_probes

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    engine = start(tiny_model)
    one, other = (sample_probes(engine, tokenizer, SamplingSettings()) for _ in range(2))
    assert [r.prompt_ids for r, _ in one] == [r.prompt_ids for r, _ in other]
    assert len({len(r.prompt_ids) for r, _ in one}) > 3
    assert len({len(c.token_ids) for _, c in one}) > 3
    special = set(tokenizer.all_special_ids)
    assert not special & {token for r, _ in one for token in r.prompt_ids}


@pytest.mark.parametrize("context", [2, 9])
def test_probes_fit_a_small_context(tiny_model: Path, context: int) -> None:
    from sfpo_rllib.env_runners.engines.probe import sample_probes

    engine = start(tiny_model)
    engine.max_model_len = context
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for request, completion in sample_probes(engine, tokenizer, SamplingSettings()):
        assert len(request.prompt_ids) + len(completion.token_ids) <= context
