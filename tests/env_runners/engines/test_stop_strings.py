"""Stop strings end a reply with the token that completes them, and change nothing before it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tokenizers import KINDS
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from sfpo_rllib.env_runners.engines import Completion, GenerationRequest, SamplingSettings, stopping
from sfpo_rllib.env_runners.engines.stopping import StopStrings
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine

TAGS = ["<answer>", "</answer>"]
NUM_REPLIES, LENGTH = 16, 24


@pytest.fixture(scope="module", params=["byte level", "metaspace", "characters"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that says anything its tokenizer knows."""
    tokenizer = KINDS[request.param](TAGS)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=64,
        )
    )
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def engine(folder: Path, tokenizer: PreTrainedTokenizerBase) -> TransformersEngine:
    stop = [tokenizer.eos_token_id]
    return TransformersEngine(model=str(folder), dtype="float32", stop_token_ids=stop)


def prompt_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return tokenizer.encode("12 + 13 =", add_special_tokens=False)


def replies(
    engine: TransformersEngine, prompt: list[int], stop: Sequence[str] | str = (), **sampling: Any
) -> list[Completion]:
    settings = SamplingSettings(**{"max_tokens": LENGTH, "stop": stop, **sampling})
    for number in range(NUM_REPLIES):
        engine.submit(GenerationRequest(number, prompt, number, settings))
    return engine.step()


@pytest.fixture(scope="module")
def whole(engine: TransformersEngine, tokenizer: PreTrainedTokenizerBase) -> list[Completion]:
    return replies(engine, prompt_of(tokenizer))


def text_of(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Text of a reply, as it goes on from the prompt."""
    prompt = prompt_of(tokenizer)
    before = tokenizer.decode(prompt, clean_up_tokenization_spaces=False)
    both = tokenizer.decode([*prompt, *token_ids], clean_up_tokenization_spaces=False)
    return both.removeprefix(before)


def length_until(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], stop: Sequence[str]
) -> int | None:
    """Tokens of a reply up to the one that completes a string."""
    for length in range(1, len(token_ids) + 1):
        text = text_of(tokenizer, token_ids[:length])
        if any(string in text for string in stop):
            return length
    return None


def strings_in(tokenizer: PreTrainedTokenizerBase, whole: list[Completion]) -> list[list[str]]:
    """Lists of strings from the middle of what was said: within a token, and over several."""
    texts = [text_of(tokenizer, reply.token_ids[:-1].tolist()) for reply in whole]
    texts = [text for text in texts if len(text) > 8 and "\ufffd" not in text[3:8]]
    return [
        [texts[0][3:4]],
        [texts[0][3:6]],
        [texts[1][4:8], texts[2][5:7]],
        [texts[0][2:6], "<answer>", "</answer>"],
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_reply_ends_with_the_token_that_completes_a_stop_string(engine, tokenizer, whole, number):
    stop = strings_in(tokenizer, whole)[number]
    ended = 0
    for found, before in zip(replies(engine, prompt_of(tokenizer), stop), whole, strict=True):
        length = length_until(tokenizer, before.token_ids.tolist(), stop)
        kept = slice(length)
        assert found.token_ids.tolist() == before.token_ids[kept].tolist()
        np.testing.assert_allclose(found.logprobs, before.logprobs[kept], atol=1e-4)
        assert found.truncated == (before.truncated and length is None)
        ended += length is not None
    assert ended


def test_a_string_is_a_list_of_one(engine, tokenizer, whole):
    stop = strings_in(tokenizer, whole)[0]
    one, other = (replies(engine, prompt_of(tokenizer), s) for s in (stop, stop[0]))
    assert [r.token_ids.tolist() for r in one] == [r.token_ids.tolist() for r in other]


def test_a_string_completed_by_the_last_token_allowed_is_an_end(engine, tokenizer, whole):
    stop = strings_in(tokenizer, whole)[1]
    long = replies(engine, prompt_of(tokenizer), stop)
    length = min(len(r.token_ids) for r in long if not r.truncated)
    for found in replies(engine, prompt_of(tokenizer), stop, max_tokens=length):
        expected = length_until(tokenizer, found.token_ids.tolist(), stop)
        ended = expected is not None or found.token_ids[-1] == tokenizer.eos_token_id
        assert found.truncated == (not ended)


def test_a_string_in_the_prompt_ends_nothing(engine, tokenizer, whole):
    found = replies(engine, prompt_of(tokenizer), ["12 + 13 ="])
    assert [r.token_ids.tolist() for r in found] == [r.token_ids.tolist() for r in whole]


def test_log_probs_of_a_given_reply_go_on_beyond_a_stop_string(engine, tokenizer, whole):
    prompt, stop = prompt_of(tokenizer), strings_in(tokenizer, whole)[0]
    (found,) = engine.logprobs(
        [[*prompt, *whole[0].token_ids.tolist()]], [len(prompt)], SamplingSettings(stop=stop)
    )
    np.testing.assert_allclose(found, whole[0].logprobs, atol=1e-4)


# Reading token by token.

SAID = [
    ("<answer>25</answer> x", ["</answer>"]),
    ("x = 5 , y ?", ["5 ,"]),
    ("x = 5 , y ?", ["nothing", "y"]),
    ("do n't ; do n't", ["n't"]),
    ("12 + 13 = 25 .", ["= 2", "13 = 25"]),
    ("aaab", ["aab"]),
    ("<answer>25", ["answer>2"]),
    ("é, ü and ∞ so", ["∞"]),
]


@pytest.mark.parametrize(("said", "stop"), SAID)
@pytest.mark.parametrize("kind", ["byte level", "metaspace", "characters"])
@pytest.mark.parametrize("streams", [True, False])
def test_a_string_is_found_wherever_tokens_are_cut(kind, said, stop, streams, monkeypatch):
    tokenizer = KINDS[kind](TAGS)
    if not streams:  # as with tokenizers in Python
        monkeypatch.setattr(stopping, "TokenizersBackend", type(None))
    tokens = tokenizer.encode(said, add_special_tokens=False)
    expected = length_until(tokenizer, tokens, stop)
    if expected is None:
        assert "∞" in stop  # two of the kinds do not know it
    reader = StopStrings(tokenizer, prompt_of(tokenizer), stop)
    found = [reader.completed_by(token) for token in tokens[:expected]]
    assert found == [False] * (len(found) - 1) + [expected is not None]


def test_bytes_that_are_no_text_do_not_stop_the_reading():
    tokenizer = KINDS["byte level"](TAGS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        noise = rng.integers(len(tokenizer), size=60).tolist()
        reader = StopStrings(tokenizer, prompt_of(tokenizer), ["<answer>"])
        for token in [t for t in noise if t not in tokenizer.convert_tokens_to_ids(TAGS)]:
            assert not reader.completed_by(token)
        assert reader.completed_by(tokenizer.convert_tokens_to_ids("<answer>"))
