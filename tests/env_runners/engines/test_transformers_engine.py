"""The transformers engine: its log-probs, its random streams, where its replies end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    SamplingSettings,
    make_engine,
)
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine
from sfpo_rllib.rl_modules.char_llama import build_char_llama

EOS = 1
VOCAB = 15
NO_STOP: list[int] = []


@pytest.fixture(scope="module")
def sharp_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose distributions are far from flat, so that what they say depends on the prompt."""
    llama = {
        name: build_char_llama(
            tmp_path_factory.mktemp(name),
            alphabet="0123456789+=",
            hidden_size=32,
            num_layers=2,
            max_length=512,
            tie_embeddings=tied,
            seed=3,
        )
        for name, tied in (("tied", True), ("untied", False))
    }
    gpt2 = GPT2Config(
        vocab_size=VOCAB,
        n_positions=512,
        n_embd=32,
        n_layer=2,
        n_head=1,
        bos_token_id=EOS,
        eos_token_id=EOS,
    )
    models = {name: AutoModelForCausalLM.from_pretrained(path) for name, path in llama.items()}
    torch.manual_seed(3)
    models["absolute positions"] = AutoModelForCausalLM.from_config(gpt2)
    folders = {}
    for name, model in models.items():
        with torch.no_grad():
            for param in model.parameters():
                if param.ndim > 1:
                    param.mul_(8.0)
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
    return folders


@pytest.fixture(params=["tied", "untied", "absolute positions"])
def folder(request: pytest.FixtureRequest, sharp_models: dict[str, Path]) -> Path:
    return sharp_models[request.param]


@pytest.fixture
def tied(sharp_models: dict[str, Path]) -> Path:
    return sharp_models["tied"]


def build_engine(folder: Path, stop: Sequence[int] = (EOS,), **kwargs: Any) -> TransformersEngine:
    kwargs = {"dtype": "float32", "device": "cpu", **kwargs}
    return TransformersEngine(model=str(folder), stop_token_ids=stop, **kwargs)


def prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, VOCAB, size=length).tolist() for length in lengths]


def request(
    request_id: int, prompt: list[int], seed: int | None = None, **sampling: Any
) -> GenerationRequest:
    sampling = {"max_tokens": 12, **sampling}
    seed = request_id if seed is None else seed
    return GenerationRequest(request_id, prompt, seed, SamplingSettings(**sampling))


def generate(
    engine: TransformersEngine, requests: Sequence[GenerationRequest]
) -> dict[int, Completion]:
    """Completions by request id; steps until all are there."""
    for one in requests:
        engine.submit(one)
    done: dict[int, Completion] = {}
    while len(done) < len(requests):
        completions = engine.step()
        assert completions, "the engine stopped early"
        done |= {completion.request_id: completion for completion in completions}
    assert engine.step() == []
    return done


@torch.no_grad()
def by_transformers(
    folder: Path, prompt: Sequence[int], reply: Sequence[int], temperature: float = 1.0
) -> np.ndarray:
    """Log-probs of a reply, of one sequence on its own and without a cache; float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([[*prompt, *reply]])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double() / temperature
    return logits.log_softmax(-1)[torch.arange(len(reply)), ids[0, len(prompt) :]].numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_of_what_was_sampled_are_those_of_transformers(folder, temperature):
    engine = build_engine(folder)
    asked = [
        request(i, prompt, temperature=temperature)
        for i, prompt in enumerate(prompts([3, 1, 300, 17]))
    ]
    done = generate(engine, asked)
    again = engine.logprobs(
        [[*r.prompt_ids, *done[r.request_id].token_ids] for r in asked],
        [len(r.prompt_ids) for r in asked],
        asked[0].sampling,
    )
    for one, logprobs in zip(asked, again, strict=True):
        completion = done[one.request_id]
        expected = by_transformers(folder, one.prompt_ids, completion.token_ids, temperature)
        np.testing.assert_allclose(completion.logprobs, expected, atol=2e-4)
        np.testing.assert_allclose(logprobs, expected, atol=2e-4)
        assert completion.logprobs.dtype == logprobs.dtype == np.float32
        assert completion.token_ids.dtype == np.int32


def test_log_probs_of_given_replies_of_any_length_stop_at_no_stop_token(tied):
    given = [[4, EOS, 5], [EOS], [6, 7, 8, 9, EOS, EOS]]
    asked = prompts([2, 270, 5])
    found = build_engine(tied).logprobs(
        [p + r for p, r in zip(asked, given, strict=True)],
        [len(p) for p in asked],
        SamplingSettings(temperature=0.7, max_tokens=1),
    )
    for prompt, reply, logprobs in zip(asked, given, found, strict=True):
        expected = by_transformers(tied, prompt, reply, 0.7)
        np.testing.assert_allclose(logprobs, expected, atol=2e-4)


# Random streams.


def same(one: Completion, other: Completion) -> bool:
    return (
        np.array_equal(one.token_ids, other.token_ids)
        and one.truncated == other.truncated
        and np.allclose(one.logprobs, other.logprobs, atol=1e-4)
    )


def test_a_reply_depends_on_its_own_seed_and_not_on_what_else_is_in_flight(tied):
    asked = [request(i, prompt) for i, prompt in enumerate(prompts([3, 9, 1, 40, 3, 5, 7, 2]))]
    together = generate(build_engine(tied), asked)
    assert len({completion.token_ids.tobytes() for completion in together.values()}) > 4
    for other in (
        generate(build_engine(tied), asked[::-1]),
        generate(build_engine(tied, max_batch_size=3), asked),
        {r.request_id: generate(build_engine(tied), [r])[r.request_id] for r in asked},
    ):
        assert all(same(together[i], other[i]) for i in together)


def test_a_longer_limit_only_goes_on_from_the_same_reply(tied):
    (prompt,) = prompts([4])
    short, long = (
        generate(build_engine(tied, stop=NO_STOP), [request(0, prompt, max_tokens=n)])[0]
        for n in (5, 20)
    )
    assert short.token_ids.tolist() == long.token_ids[:5].tolist()


def test_other_seeds_give_other_replies(tied):
    (prompt,) = prompts([4])
    done = generate(build_engine(tied, stop=NO_STOP), [request(i, prompt) for i in range(20)])
    assert len({completion.token_ids.tobytes() for completion in done.values()}) > 10


# Distributions.


def first_tokens(
    folder: Path, prompt: list[int], count: int, **sampling: Any
) -> tuple[np.ndarray, np.ndarray]:
    """First tokens of `count` replies to one prompt, and their log-probs."""
    done = generate(
        build_engine(folder),
        [request(i, prompt, max_tokens=1, **sampling) for i in range(count)],
    )
    tokens = np.array([done[i].token_ids[0] for i in range(count)])
    return tokens, np.array([done[i].logprobs[0] for i in range(count)])


def next_token_probs(folder: Path, prompt: list[int], temperature: float = 1.0) -> np.ndarray:
    return np.exp([by_transformers(folder, prompt, [t], temperature)[0] for t in range(VOCAB)])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_from_the_distribution(tiny_model, temperature):
    (prompt,), count = prompts([4]), 2000
    probs = next_token_probs(tiny_model, prompt, temperature)
    tokens, _ = first_tokens(tiny_model, prompt, count, temperature=temperature)
    frequencies = np.bincount(tokens, minlength=VOCAB) / count
    deviation = np.sqrt(probs * (1 - probs) / count)
    assert (np.abs(frequencies - probs) < 4.5 * deviation).all()


@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_top_k_keeps_the_likeliest_and_renormalizes(tiny_model, top_k):
    (prompt,) = prompts([4])
    probs = next_token_probs(tiny_model, prompt)
    kept = np.argsort(-probs)[:top_k]
    tokens, logprobs = first_tokens(tiny_model, prompt, 300, top_k=top_k)
    assert set(tokens) == set(kept)
    expected = np.log(probs[tokens] / probs[kept].sum())
    np.testing.assert_allclose(logprobs, expected, atol=1e-4)


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.8])
def test_top_p_keeps_the_smallest_set_of_so_much_probability(tiny_model, top_p):
    (prompt,) = prompts([4])
    probs = next_token_probs(tiny_model, prompt)
    order = np.argsort(-probs)
    kept = order[: int(np.searchsorted(np.cumsum(probs[order]), top_p)) + 1]
    tokens, logprobs = first_tokens(tiny_model, prompt, 300, top_p=top_p)
    assert set(tokens) == set(kept)
    expected = np.log(probs[tokens] / probs[kept].sum())
    np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_temperature_zero_is_greedy_whatever_the_seed(tied):
    (prompt,) = prompts([4])
    engine = build_engine(tied, stop=NO_STOP)
    done = generate(engine, [request(i, prompt, temperature=0) for i in range(3)])
    tokens = list(prompt)
    model = AutoModelForCausalLM.from_pretrained(tied)
    for _ in range(12):
        logits = model(input_ids=torch.tensor([tokens])).logits
        tokens.append(int(logits[0, -1].argmax()))
    for completion in done.values():
        assert completion.token_ids.tolist() == tokens[len(prompt) :]


def test_requests_of_different_distributions_do_not_share_a_batch(tiny_model):
    engine = build_engine(tiny_model)
    (prompt,) = prompts([4])
    mixed = [request(i, prompt, temperature=1.0 if i % 3 else 0.2) for i in range(9)]
    done = generate(engine, mixed)
    for one in mixed:
        expected = by_transformers(
            tiny_model, prompt, done[one.request_id].token_ids, one.sampling.temperature
        )
        np.testing.assert_allclose(done[one.request_id].logprobs, expected, atol=1e-4)


# Ends.


def test_a_reply_ends_with_a_stop_token_or_is_cut_at_its_own_limit(tiny_model):
    stop = {EOS, 5, 9}
    asked = [
        request(i, prompt, max_tokens=1 + i % 7) for i, prompt in enumerate(prompts([3, 5] * 20))
    ]
    done = generate(build_engine(tiny_model, stop=stop), asked)
    ends = set()
    for one in asked:
        completion = done[one.request_id]
        *body, last = completion.token_ids.tolist()
        assert not stop & set(body)
        assert completion.truncated == (last not in stop)
        assert len(completion.token_ids) == len(completion.logprobs) <= one.sampling.max_tokens
        if completion.truncated:
            assert len(completion.token_ids) == one.sampling.max_tokens
        ends.add("limit" if completion.truncated else last)
    assert ends == {"limit", *stop}  # each was seen


def test_aborted_requests_never_come_back(tied):
    engine = build_engine(tied, max_batch_size=2)
    asked = [request(i, prompt) for i, prompt in enumerate(prompts([3] * 6))]
    for one in asked[:5]:
        engine.submit(one)
    assert len(engine.step()) == 2
    engine.abort()
    assert engine.step() == []
    assert set(generate(engine, asked[5:])) == {5}


# Weights.


def test_after_loading_the_new_weights_run(sharp_models, tiny_model):
    for folder in (sharp_models["tied"], tiny_model):
        weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
        weights.pop("lm_head.weight")  # tied: it comes once
        engine = build_engine(sharp_models["tied"])
        asked = [request(i, prompt) for i, prompt in enumerate(prompts([5, 3]))]
        generate(engine, asked)  # with the old ones first
        engine.load_weights(weights)
        for one, completion in zip(asked, generate(engine, asked).values(), strict=True):
            expected = by_transformers(folder, one.prompt_ids, completion.token_ids)
            np.testing.assert_allclose(completion.logprobs, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda w: w.pop("model.norm.weight"), "model.norm.weight"),
        (lambda w: w.update({"model.nonsense": torch.zeros(1)}), "model.nonsense"),
        (lambda w: w.pop("lm_head.weight"), "lm_head.weight"),
    ],
    ids=["missing", "unknown", "missing and not tied"],
)
def test_weights_of_another_model_are_refused(
    sharp_models, spoil: Callable[[dict], object], name: str
):
    engine = build_engine(sharp_models["untied"])
    weights = AutoModelForCausalLM.from_pretrained(sharp_models["untied"]).state_dict()
    spoil(weights)
    with pytest.raises(ValueError, match=f"weights: .*{name}"):
        engine.load_weights(weights)


@pytest.mark.parametrize(("max_model_len", "expected"), [(None, 512), (64, 64)])
def test_the_context_is_the_models_own_unless_given(tied, max_model_len, expected):
    engine = make_engine(
        "transformers",
        gpu_share=0.0,
        model=str(tied),
        dtype="bfloat16",
        stop_token_ids=[EOS],
        device="cpu",
        max_model_len=max_model_len,
    )
    assert engine.max_model_len == expected
    assert {param.dtype for param in engine._model.parameters()} == {torch.bfloat16}


def test_an_unknown_engine_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"rollout_engine='vlm': .*'vllm', 'transformers'"):
        make_engine("vlm", gpu_share=0.0)
