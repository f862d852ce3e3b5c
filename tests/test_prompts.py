"""Observations to tokens: raw, through a chat template, over several turns."""

import string
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sfpo_rllib.env_runners.prompts import PromptFormatter, stop_token_ids
from sfpo_rllib.rl_modules.char_llama import build_char_llama

TURN = "[{{ message['role'] }}]\n{{ message['content'] }}{{ eos_token }}"
REPLY_FOLLOWS = "{% if add_generation_prompt %}[assistant]\n{% endif %}"
TEMPLATES = {
    "plain": "{% for message in messages %}" + TURN + "{% endfor %}" + REPLY_FOLLOWS,
    "newline after a turn": "{% for message in messages %}"
    + TURN
    + "{{ '\n' }}{% endfor %}"
    + REPLY_FOLLOWS,
    "default system message": "{% if messages[0]['role'] != 'system' %}[system]\nAnswer."
    "{{ eos_token }}{% endif %}{% for message in messages %}"
    + TURN
    + "{% endfor %}"
    + REPLY_FOLLOWS,
}
ALPHABET = string.ascii_letters + string.digits + "+=?[].,: \n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """Character-level, without a chat template."""
    folder = build_char_llama(
        tmp_path_factory.mktemp("model"), alphabet=ALPHABET, hidden_size=32, num_layers=1
    )
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=TEMPLATES.values(), ids=TEMPLATES.keys())
def chat_tokenizer(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedTokenizerBase:
    twin = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    twin.chat_template = request.param
    return twin


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def rendered(tokenizer: PreTrainedTokenizerBase, *turns: str) -> list[int]:
    """Tokens of the template's own rendering of a dialogue that the user begins and ends."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return encode(tokenizer, text)


def test_a_string_is_one_user_turn_of_the_template(chat_tokenizer):
    for prompt_format in ("auto", "chat"):
        formatter = PromptFormatter(chat_tokenizer, prompt_format)
        assert formatter.first("1+2?") == rendered(chat_tokenizer, "1+2?")
    assert encode(chat_tokenizer, "1+2?") != rendered(chat_tokenizer, "1+2?")


@pytest.mark.parametrize("reply_ended", [True, False])
@pytest.mark.parametrize("replies", [("3.",), ("So: 3.", " no"), ("3", "", "4")])
def test_a_dialogue_turn_by_turn_is_the_templates_own_rendering(
    chat_tokenizer, replies, reply_ended
):
    formatter = PromptFormatter(chat_tokenizer)
    said = ["1+2?"]
    tokens = formatter.first("1+2?")
    for i, reply in enumerate(replies):
        question = f"Why, for the {i}th time?"
        tokens += encode(chat_tokenizer, reply)
        if reply_ended:
            tokens += [chat_tokenizer.eos_token_id]
        end = chat_tokenizer.eos_token_id if reply_ended else None
        tokens += formatter.following(question, end=end)
        said += [reply, question]
        assert tokens == rendered(chat_tokenizer, *said)


def test_a_list_of_messages_goes_through_the_template_whatever_the_format(chat_tokenizer):
    messages = [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "1+2?"},
    ]
    text = chat_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for prompt_format in ("auto", "raw", "chat"):
        formatter = PromptFormatter(chat_tokenizer, prompt_format)
        assert formatter.first(messages) == encode(chat_tokenizer, text)


@pytest.mark.parametrize("prompt_format", ["auto", "raw"])
def test_raw_prompts_are_taken_at_their_word(tokenizer, prompt_format):
    formatter = PromptFormatter(tokenizer, prompt_format)
    assert formatter.first("1+2=") == encode(tokenizer, "1+2=")
    assert formatter.following("4+5=", end=tokenizer.eos_token_id) == encode(tokenizer, "4+5=")
    assert formatter.following("4+5=", end=None) == [
        tokenizer.eos_token_id,
        *encode(tokenizer, "4+5="),
    ]


def test_raw_is_raw_even_where_there_is_a_template(chat_tokenizer):
    formatter = PromptFormatter(chat_tokenizer, "raw")
    assert formatter.first("1+2=") == encode(chat_tokenizer, "1+2=")
    assert formatter.following("4=", end=chat_tokenizer.eos_token_id) == encode(
        chat_tokenizer, "4="
    )


def test_a_reply_is_decoded_without_special_tokens(tokenizer):
    reply = [*encode(tokenizer, "3 and 4"), tokenizer.eos_token_id]
    assert PromptFormatter(tokenizer).decode(reply) == "3 and 4"


@pytest.mark.parametrize(
    ("prompt_format", "message"),
    [("chatml", r"prompt_format='chatml': must be one of"), ("chat", "prompt_format='chat': .*no")],
)
def test_formats_that_cannot_be_are_refused(tokenizer, prompt_format, message):
    with pytest.raises(ValueError, match=message):
        PromptFormatter(tokenizer, prompt_format)


@pytest.mark.parametrize(
    ("of_tokenizer", "of_generation", "expected"),
    [(1, None, [1]), (1, 1, [1]), (5, [7, 1], [1, 5, 7]), (None, 2, [2]), (0, [3], [0, 3])],
)
def test_a_reply_ends_with_the_eos_of_tokenizer_or_generation_config(
    of_tokenizer: int | None, of_generation: int | Sequence[int] | None, expected: list[int]
):
    tokenizer = SimpleNamespace(eos_token_id=of_tokenizer)
    assert stop_token_ids(tokenizer, SimpleNamespace(eos_token_id=of_generation)) == expected


def test_a_model_without_an_eos_is_refused():
    with pytest.raises(ValueError, match="EOS"):
        stop_token_ids(SimpleNamespace(eos_token_id=None), None)


def test_a_turn_may_end_with_another_token_than_eos(tokenizer):
    turn = "[{{ message['role'] }}]\n{{ message['content'] }}?"
    twin = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    twin.chat_template = "{% for message in messages %}" + turn + "{% endfor %}" + REPLY_FOLLOWS
    (turn_end,) = encode(twin, "?")
    formatter = PromptFormatter(twin)
    for end in (turn_end, None):  # a reply that ended so, and one that was cut
        reply = encode(twin, "3") + ([] if end is None else [end])
        tokens = formatter.first("1+2") + reply + formatter.following("Why", end=end)
        assert tokens == rendered(twin, "1+2", "3", "Why")
