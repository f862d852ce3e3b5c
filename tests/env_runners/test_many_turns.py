"""Over several turns the learner trains on exactly the tokens that were sampled."""

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID
from repository import ROOT
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sfpo_rllib.connectors.token_batch import TokenBatch
from sfpo_rllib.env_runners.engines import Completion, GenerationRequest, SamplingSettings
from sfpo_rllib.env_runners.prompts import PromptFormatter
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.rl_modules.causal_lm import ATTENTION_MASK, BEHAVIOUR_LOGP, INPUT_IDS, LOSS_MASK
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.token_trace import TokenTrace

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUM_TURNS = 3
GROUP_SIZE = 2
SEEDS = (3, 4)


def char_level(folder: Path) -> PreTrainedTokenizerBase:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789<>|_/[]. \n"
    build_char_llama(folder, alphabet=alphabet, hidden_size=32, num_layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for message in messages %}[{{ message['role'] }}]\n{{ message['content'] }}"
        "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    return tokenizer


def byte_level_bpe(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["the user says that the assistant says 12 + 13 = 25\n"] * 9, trainer
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    return fast


def smollm2(folder: Path) -> PreTrainedTokenizerBase:
    path = ROOT / "tuned_examples" / "smollm2_weights.py"
    spec = importlib.util.spec_from_file_location("smollm2_weights_for_its_tokenizer", path)
    assert spec is not None and spec.loader is not None
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    cached = weights.default_cache() / weights.FOLDER
    if not (cached / "tokenizer.json").exists():
        pytest.skip(f"SmolLM2's tokenizer is not in {cached}")
    return AutoTokenizer.from_pretrained(cached)


@pytest.fixture(
    scope="module", params=[char_level, smollm2, byte_level_bpe], ids=lambda f: f.__name__
)
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PreTrainedTokenizerBase:
    return request.param(tmp_path_factory.mktemp("tokenizer"))


class RandomEngine:
    """Samples any tokens of the vocabulary, halves of characters and control tokens among them."""

    max_model_len = 4096

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._size, self._eos = len(tokenizer), tokenizer.eos_token_id
        self._waiting: list[GenerationRequest] = []
        self.sampled: list[tuple[list[int], np.ndarray, np.ndarray]] = []  # prompt, ids, log-probs

    def submit(self, request: GenerationRequest) -> None:
        self._waiting.append(request)

    def step(self) -> list[Completion]:
        request = self._waiting.pop()
        random = np.random.default_rng(request.seed)
        ids = random.integers(self._size, size=random.integers(1, 12))
        ids = ids[ids != self._eos].astype(np.int32)
        truncated = len(ids) > 0 and bool(random.random() < 0.3)
        if not truncated:
            ids = np.append(ids, np.int32(self._eos))
        logprobs = -random.random(len(ids)).astype(np.float32)
        self.sampled.append((list(request.prompt_ids), ids, logprobs))
        return [Completion(request.request_id, ids, logprobs, truncated)]


class Talk(gym.Env):
    """Says something in every turn."""

    def __init__(self, said: str, as_messages: bool) -> None:
        self._said, self._as_messages = said, as_messages

    def _observation(self) -> Any:
        text = f"turn {self._turn} {self._said} end"
        return [{"role": "user", "content": text}] if self._as_messages else text

    def reset(self, *, seed=None, options=None):
        self._turn = 0
        return self._observation(), {}

    def step(self, action):
        self._turn += 1
        return self._observation(), 0.0, self._turn == NUM_TURNS, False, {}


def special_strings(tokenizer: PreTrainedTokenizerBase) -> str:
    names = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    assert set(tokenizer.all_special_tokens) <= set(names)
    # Alone, doubled, and one that only appears when the one inside it is taken out.
    half = len(names[0]) // 2
    return " ".join([*names, names[-1] * 2, names[0][:half] + names[-1] + names[0][half:]])


def control_tokens(tokenizer: PreTrainedTokenizerBase, ids: Any) -> list[int]:
    unknown = tokenizer.unk_token_id  # stands for characters a tokenizer does not know
    special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special} - {unknown}
    return [i for i in np.asarray(ids).tolist() if i in special]


def batch_of(
    tokenizer: PreTrainedTokenizerBase, prompt_format: str, said: str, as_messages: bool
) -> tuple[RandomEngine, list[TokenTrace], dict[str, Any]]:
    engine = RandomEngine(tokenizer)
    result = GroupRollout(
        RolloutJob(SEEDS, 0, (0,), False, 60.0),
        group_size=GROUP_SIZE,
        sampling=SamplingSettings(max_tokens=12),
        engine=engine,
        formatter=PromptFormatter(tokenizer, prompt_format),
        envs=EnvPool(lambda _: Talk(said, as_messages), {}),
    ).run()
    assert not result.dropped
    episodes = [episode for seed in SEEDS for episode in result.groups[seed]]
    batch = TokenBatch(group_size=GROUP_SIZE)(rl_module=None, batch={}, episodes=episodes)
    return engine, [TokenTrace.of(e) for e in episodes], batch[DEFAULT_MODULE_ID]


WAYS = [("raw", False), ("chat", False), ("chat", True)]


@pytest.mark.parametrize("special", [False, True], ids=["plain text", "special strings"])
@pytest.mark.parametrize(("prompt_format", "as_messages"), WAYS)
def test_the_learner_trains_on_exactly_what_was_sampled(
    tokenizer, prompt_format, as_messages, special
):
    said = special_strings(tokenizer) if special else "12 13"
    engine, traces, batch = batch_of(tokenizer, prompt_format, said, as_messages)
    assert len(engine.sampled) == len(traces) * NUM_TURNS
    for row, trace in enumerate(traces):
        ids = batch[INPUT_IDS][row][batch[ATTENTION_MASK][row].bool()]
        trained = batch[LOSS_MASK][row][: len(ids)]
        whole = ids.tolist()
        # Each request's prompt is this dialogue up to where its reply begins, token by token.
        own = [s for s in engine.sampled if whole[: len(s[0])] == s[0]]
        own = sorted((s for s in own if _follows(whole, s)), key=lambda s: len(s[0]))
        assert len(own) == NUM_TURNS
        expected = np.zeros(len(ids), bool)
        for prompt, sampled, logprobs in own:
            place = slice(len(prompt), len(prompt) + len(sampled))
            expected[place] = True
            assert ids[place].tolist() == sampled.tolist()
            assert np.array_equal(batch[BEHAVIOUR_LOGP][row][place].numpy(), logprobs)
        assert np.array_equal(trained.numpy(), expected)
        assert np.array_equal(trace.loss_mask, expected)
        assert not batch[BEHAVIOUR_LOGP][row][: len(ids)][~trained].any()
        assert not batch[LOSS_MASK][row][len(ids) :].any()


def _follows(whole: list[int], sampled: tuple[list[int], np.ndarray, np.ndarray]) -> bool:
    start = len(sampled[0])
    return whole[start : start + len(sampled[1])] == sampled[1].tolist()


def test_some_of_it_would_not_survive_decoding_and_encoding(tokenizer):
    """Or the test above would show nothing."""
    engine, _, _ = batch_of(tokenizer, "raw", "12", False)
    changed = [
        ids
        for _, ids, _ in engine.sampled
        if tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False) != ids.tolist()
    ]
    assert changed or len(tokenizer) < 100  # character by character there is nothing to lose


@pytest.mark.parametrize(("prompt_format", "as_messages"), WAYS)
def test_an_environments_text_never_becomes_control_tokens(tokenizer, prompt_format, as_messages):
    said = {"plain": "12 13", "special": special_strings(tokenizer)}
    control: dict[str, list[list[int]]] = {}
    for name, text in said.items():
        _, traces, _ = batch_of(tokenizer, prompt_format, text, as_messages)
        control[name] = [control_tokens(tokenizer, t.token_ids[~t.loss_mask]) for t in traces]
    assert control["special"] == control["plain"]


@pytest.mark.parametrize(("prompt_format", "as_messages"), WAYS)
def test_the_model_reads_special_strings_as_they_are_written(tokenizer, prompt_format, as_messages):
    text = f"before {special_strings(tokenizer)} after"
    observation = [{"role": "user", "content": text}] if as_messages else text
    formatter = PromptFormatter(tokenizer, prompt_format)
    for tokens in (
        formatter.first(observation),
        formatter.following(observation, end=tokenizer.eos_token_id),
        formatter.following(observation, end=None),
    ):
        assert tokenizer.decode(tokens).count(text) == 1
    if prompt_format == "raw":
        plain = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert formatter.first(text) == plain


def test_text_without_special_strings_is_encoded_as_the_template_wrote_it(tokenizer):
    messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": "\n12 < 13|>\n"}]
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    expected = tokenizer.encode(whole, add_special_tokens=False)
    assert PromptFormatter(tokenizer).first(messages) == expected
