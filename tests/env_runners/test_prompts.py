"""Observations to tokens: raw, through a chat template, over several turns."""

import copy
import json
import string
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from small_tokenizers import BOS, KINDS, byte_level
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sfpo_rllib.env_runners.prompts import PromptFormatter, load_tokenizer, stop_token_ids
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


@pytest.mark.parametrize("text", ["1 + 2 =", "the user says", "<s>", "</s> so", ""])
@pytest.mark.parametrize(
    ("kind", "begins"), [("metaspace", [BOS]), ("word piece", [BOS]), ("byte level", [])]
)
def test_a_raw_prompt_begins_as_the_tokenizer_begins_a_text_and_a_later_turn_does_not(
    kind, begins, text
):
    tokenizer = KINDS[kind]()
    plain = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    begin = tokenizer.convert_tokens_to_ids(begins)
    formatter = PromptFormatter(tokenizer, "raw")
    assert formatter.first(text) == [*begin, *plain]
    assert formatter.following(text, end=tokenizer.eos_token_id) == plain
    assert formatter.following(text, end=None) == [tokenizer.eos_token_id, *plain]


def test_all_that_a_tokenizer_puts_before_a_text_begins_a_raw_prompt():
    tokenizer = byte_level(["[gMASK]", "<sop>"])
    ids = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=[("[gMASK]", ids[0]), ("<sop>", ids[1])]
    )
    assert PromptFormatter(tokenizer).first("12") == [*ids, *encode(tokenizer, "12")]


def test_a_template_alone_decides_about_bos_in_a_chat():
    for template in (TURN, "{{ bos_token }}" + TURN):
        tokenizer = KINDS["metaspace"]()
        tokenizer.chat_template = "{% for message in messages %}" + template + "{% endfor %}"
        tokens = PromptFormatter(tokenizer).first("12")
        assert tokens.count(tokenizer.bos_token_id) == template.count("bos")


def test_raw_text_goes_on_after_a_stop_string_as_it_is(tokenizer):
    formatter = PromptFormatter(tokenizer, "raw", stop_token_ids=[tokenizer.eos_token_id])
    assert formatter.following("4", end=encode(tokenizer, "]")[0]) == encode(tokenizer, "4")


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


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"eos_token_id": [7, 2]}, [1, 2, 7]),
        ({"eos_token_id": 7}, [1, 7]),
        ({"text_config": {"eos_token_id": [7, 1]}}, [1, 7]),
        ({"eos_token_id": 3, "text_config": {"eos_token_id": 4}}, [1, 3, 4]),
        ({"eos_token_id": None, "text_config": None}, [1]),
        ({}, [1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("generation", [None, {}, {"eos_token_id": 1}], ids=str)
def test_a_reply_ends_with_what_stands_in_the_models_config_alone(
    tokenizer, tmp_path, config, generation, expected
):
    tokenizer.save_pretrained(tmp_path)
    # Without the key the class of the config says 2, which need not be the model's.
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    loaded, ends = load_tokenizer(str(tmp_path))
    assert loaded.eos_token_id == 1
    assert ends == expected


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


@pytest.mark.parametrize("observation", ["1+2?", [{"role": "user", "content": "1+2?"}]])
def test_a_prompt_is_rendered_and_encoded_once_for_all_that_begin_with_it(
    chat_tokenizer, monkeypatch, observation
):
    formatter, encoded = PromptFormatter(chat_tokenizer), []
    encode_rendered = PromptFormatter._encode_rendered

    def spied(self: Any, text: str) -> list[int]:
        encoded.append(text)
        return encode_rendered(self, text)

    monkeypatch.setattr(PromptFormatter, "_encode_rendered", spied)
    prompts = [formatter.first(copy.deepcopy(observation)) for _ in range(8)]
    assert len(encoded) == 1
    prompts[0].append(0)  # each may go on in its own way
    assert prompts[1] == prompts[7] == formatter.first(observation) == prompts[0][:-1]
    assert formatter.first("1+3?") != prompts[1]
    assert len(encoded) == 2


def test_prompts_of_thousands_of_problems_are_not_kept(tokenizer):
    formatter = PromptFormatter(tokenizer, "raw")
    for number in range(1000):
        assert formatter.first(f"{number}=") == encode(tokenizer, f"{number}=")
    assert len(formatter._recent) < 100


def test_messages_with_more_than_plain_data_are_rendered_each_time(chat_tokenizer):
    formatter = PromptFormatter(chat_tokenizer)
    messages = [{"role": "user", "content": "1+2?", "tools": {print}}]
    assert formatter.first(messages) == rendered(chat_tokenizer, "1+2?")
