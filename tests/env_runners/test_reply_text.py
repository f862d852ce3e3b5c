"""What an environment sees of a reply: its text with all tags, without the end and padding."""

import gymnasium as gym
import numpy as np
import pytest
from small_tokenizers import BOS, KINDS, byte_level, char_level, metaspace, word_piece
from transformers import PreTrainedTokenizerBase

from sfpo_rllib.env_runners.engines import Completion, GenerationRequest, SamplingSettings
from sfpo_rllib.env_runners.prompts import PromptFormatter
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob
from sfpo_rllib.env_runners.text_envs import EnvPool

TAGS = ["<answer>", "</answer>", "<think>", "</think>", "<tool_call>", "[TOOL_CALLS]", "<|python|>"]
REPLIES = [
    "<answer>25</answer>",
    "<think>12 + 13</think>\n<answer>25</answer>",
    "[TOOL_CALLS][ x = 5 ]",
    "<tool_call>12<|python|>13",
    "<think><think></answer>",
]


@pytest.fixture(scope="module", params=["byte level", "metaspace", "characters"])
def tagged(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Of each kind, with tags that are special tokens."""
    return KINDS[request.param](TAGS)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("reply", REPLIES)
def test_an_environment_sees_tags_that_are_special_tokens(tagged, reply):
    tokens = encode(tagged, reply)
    assert set(tokens) & set(tagged.convert_tokens_to_ids(TAGS))
    for end in ([], [tagged.eos_token_id]):
        assert PromptFormatter(tagged, "raw").decode(tokens + end) == reply


@pytest.mark.parametrize("reply", REPLIES)
def test_padding_and_what_ends_a_reply_are_no_text(tagged, reply):
    pad, eos = tagged.pad_token_id, tagged.eos_token_id
    other_end = tagged.convert_tokens_to_ids("<|python|>")
    formatter = PromptFormatter(tagged, "raw", stop_token_ids=[eos, other_end])
    first, *others = encode(tagged, reply)
    padded = [pad, first, pad, *others, pad]
    for end in (eos, other_end):
        assert formatter.decode([*padded, end]) == reply
        assert formatter.decode([end]) == ""
    assert formatter.decode(padded) == reply
    assert formatter.decode([]) == ""


def test_a_token_that_may_end_replies_is_a_tag_where_it_does_not(tagged):
    end = tagged.convert_tokens_to_ids("</answer>")
    tokens = [*encode(tagged, "<answer>25"), end]
    assert PromptFormatter(tagged, stop_token_ids=[end]).decode(tokens) == "<answer>25"
    assert PromptFormatter(tagged, stop_token_ids=[1]).decode(tokens) == "<answer>25</answer>"


def test_control_tokens_of_the_tokenizer_itself_are_no_text(tagged):
    bos = tagged.convert_tokens_to_ids(BOS)
    assert PromptFormatter(tagged).decode([bos, *encode(tagged, "<answer>25"), bos]) == "<answer>25"


@pytest.mark.parametrize("text", ["x = 5 , y ?", "it 's so !", "do n't .", "( 12 + 13 ) ."])
@pytest.mark.parametrize("make", [byte_level, metaspace, word_piece, char_level])
def test_spaces_are_never_cleaned_up(make, text):
    tokenizer = make(
        clean_up_tokenization_spaces=True,
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output=True,
    )
    tokens = encode(tokenizer, text)
    assert tokenizer.decode(tokens) != text  # as by the tokenizer's own settings
    assert PromptFormatter(tokenizer).decode([*tokens, tokenizer.eos_token_id]) == text


class Tagged(gym.Env):
    """Pays for an answer in its tags."""

    def reset(self, *, seed=None, options=None):
        return "12 + 13", {}

    def step(self, action):
        return "", float(action == "<answer>25</answer>"), True, False, {}


class Says:
    """An engine that always says the same."""

    max_model_len = 100

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = np.array(tokens, np.int32)
        self._waiting: list[GenerationRequest] = []

    def submit(self, request: GenerationRequest) -> None:
        self._waiting.append(request)

    def step(self) -> list[Completion]:
        logprobs = np.zeros(len(self._tokens), np.float32)
        return [Completion(self._waiting.pop().request_id, self._tokens, logprobs, False)]


@pytest.mark.parametrize("stopped", [False, True], ids=["by EOS", "by a stop string"])
def test_an_answer_between_tags_that_are_special_tokens_is_rewarded(tagged, stopped):
    tokens = encode(tagged, "<answer>25</answer>") + [tagged.eos_token_id] * (not stopped)
    result = GroupRollout(
        RolloutJob((3,), 0, (0,), False, 60.0),
        group_size=2,
        sampling=SamplingSettings(),
        engine=Says(tokens),
        formatter=PromptFormatter(tagged, stop_token_ids=[tagged.eos_token_id]),
        envs=EnvPool(lambda _: Tagged(), {}),
    ).run()
    assert [episode.get_return() for episode in result.groups[3]] == [1.0, 1.0]
