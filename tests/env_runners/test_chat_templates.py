"""Dialogues by templates in the manner of well-known models: continued, whole, ended once."""

import pytest
from small_tokenizers import EOS, KINDS, TEMPLATES, chat_tokenizer, end_of
from transformers import PreTrainedTokenizerBase

from sfpo_rllib.env_runners.prompts import PromptFormatter

Messages = list[dict[str, str]]


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def messages(*turns: str) -> Messages:
    """`role: content` each."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


@pytest.fixture(scope="module", params=[*TEMPLATES])
def template(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tokenizer(template: str) -> PreTrainedTokenizerBase:
    return chat_tokenizer(template)


# Prefill.

PREFILLS = ["<think>", "12 + 13 =", "the answer", "[[ ("]


@pytest.mark.parametrize("prefill", PREFILLS)
def test_a_last_message_of_the_assistant_is_continued(tokenizer, template, prefill):
    asked = messages("user: 12 + 13", f"assistant: {prefill}")
    tokens = PromptFormatter(tokenizer).first(asked)
    text = tokenizer.apply_chat_template(asked, tokenize=False, continue_final_message=True)
    assert text.endswith(prefill)
    assert tokens == encode(tokenizer, text)
    assert tokenizer.decode(tokens).count(prefill) == 1
    assert end_of(tokenizer, template) != tokens[-1]
    # It is not a turn that is over, nor does another begin.
    asked_alone = PromptFormatter(tokenizer).first(asked[:1])
    assert len(tokens) > len(asked_alone)
    assert tokens[: len(asked_alone)] == asked_alone


@pytest.mark.parametrize("tag", ["<think>", "<answer>", "[TOOL]"])
@pytest.mark.parametrize("name", [*TEMPLATES])
def test_a_tag_in_a_prefill_is_the_token_that_the_policy_would_sample(name, tag):
    text, _, special = TEMPLATES[name]
    tokenizer = KINDS["byte level"]([*special, "<think>", "<answer>", "[TOOL]"])
    tokenizer.chat_template = text
    token = tokenizer.convert_tokens_to_ids(tag)
    asked = messages("user: 1", f"assistant: {tag} so")
    whole = tokenizer.apply_chat_template(asked, tokenize=False, continue_final_message=True)
    formatter = PromptFormatter(tokenizer)
    assert formatter.first(asked) == encode(tokenizer, whole)
    assert formatter.first(asked).count(token) == 1
    # What the user says is text, whatever it is, and so are control tokens in a prefill.
    assert token not in formatter.first(messages(f"user: {tag} so"))
    for control in {EOS, *special}:
        tokens = formatter.first(messages("user: 1", f"assistant: 2 {control} so"))
        ends = tokens.count(tokenizer.convert_tokens_to_ids(control))
        assert ends == formatter.first(messages("user: 1", "assistant: 2 so")).count(
            tokenizer.convert_tokens_to_ids(control)
        )


def test_messages_without_a_template_are_refused():
    with pytest.raises(ValueError, match="the tokenizer has no chat template for messages"):
        PromptFormatter(KINDS["characters"]()).first(messages("user: 1", "assistant: 2"))


@pytest.mark.parametrize("prefill", PREFILLS)
def test_a_later_turn_is_continued_too(tokenizer, template, prefill):
    formatter = PromptFormatter(tokenizer)
    end = end_of(tokenizer, template)
    turn = messages("user: why ?")
    without = formatter.following(turn, end=end)
    with_prefill = formatter.following([*turn, *messages(f"assistant: {prefill}")], end=end)
    assert with_prefill[: len(without)] == without
    assert tokenizer.decode(with_prefill[len(without) :]).strip() == prefill


def test_messages_of_the_assistant_before_the_last_are_turns_that_are_over(tokenizer, template):
    asked = messages("user: 1", "assistant: 2", "user: 3")
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    tokens = PromptFormatter(tokenizer).first(asked)
    assert tokens == encode(tokenizer, text)
    assert end_of(tokenizer, template) in tokens


# One end a turn.


def whole(tokenizer: PreTrainedTokenizerBase, *turns: str) -> str:
    return tokenizer.apply_chat_template(
        messages(*turns), tokenize=False, add_generation_prompt=True
    )


@pytest.mark.parametrize("kind", ["byte level", "metaspace", "characters"])
@pytest.mark.parametrize("reply", ["25", "no .", "12 + 13 = 25", "it 's so"])
def test_a_reply_has_one_end_and_the_dialogue_is_the_templates_own(template, kind, reply):
    tokenizer = chat_tokenizer(template, kind)
    end = end_of(tokenizer, template)
    formatter = PromptFormatter(tokenizer, stop_token_ids=[end])
    first = formatter.first("12 + 13")
    sampled = encode(tokenizer, reply)
    ended = [*first, *sampled, end, *formatter.following("so ?", end=end)]
    text = whole(tokenizer, "user: 12 + 13", f"assistant: {reply}", "user: so ?")
    # What the policy did not sample, a space around its reply, is not there.
    assert spaceless(tokenizer, ended) == spaceless(tokenizer, encode(tokenizer, text))
    assert ended.count(end) == encode(tokenizer, text).count(end)
    # A reply that was cut gets the end from the template, as does one with a stop string.
    for last in (None, sampled[-1]):
        cut = [*first, *sampled, *formatter.following("so ?", end=last)]
        assert spaceless(tokenizer, cut) == spaceless(tokenizer, ended)
        assert cut.count(end) == ended.count(end)


def spaceless(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return "".join(tokenizer.decode(tokens).split())


@pytest.mark.parametrize("between", ["", " ", "\n", " \n "])
@pytest.mark.parametrize("after", ["", " ", "\n"])
@pytest.mark.parametrize("kind", ["byte level", "characters", "metaspace"])
def test_whatever_spaces_a_template_puts_around_an_end_it_comes_once(between, after, kind):
    tokenizer = KINDS[kind](["<|turn|>"])
    tokenizer.chat_template = (
        "{% for m in messages %}<|turn|>{{ m['role'] }}: {{ m['content'] }}{{ between }}"
        f"{EOS}{{{{ after }}}}{{% endfor %}}{{% if add_generation_prompt %}}<|turn|>assistant:"
        "{% endif %}"
    )
    formatter = PromptFormatter(
        tokenizer, chat_template_kwargs={"between": between, "after": after}
    )
    end = tokenizer.eos_token_id
    following = formatter.following("so", end=end)
    turn = tokenizer.convert_tokens_to_ids("<|turn|>")
    assert end not in following[: following.index(turn)]
    assert formatter.following("so", end=None).count(end) == following.count(end) + 1
    text = tokenizer.decode([end, *following])
    assert text == f"{EOS}{after}<|turn|>user: so{between}{EOS}{after}<|turn|>assistant:"


def test_the_mark_of_the_next_turn_may_be_what_ended_the_reply():
    tokenizer = KINDS["byte level"](["<|user|>", "<|tool|>", "<|assistant|>"])
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    user, tool, eos = (
        tokenizer.convert_tokens_to_ids(token) for token in ("<|user|>", "<|tool|>", EOS)
    )
    formatter = PromptFormatter(tokenizer, stop_token_ids=[user, tool, eos])
    rest = encode(tokenizer, "\nso<|assistant|>\n")
    assert formatter.following("so", end=user) == rest
    assert formatter.following(messages("tool: so"), end=tool) == rest
    # It is not taken away where something else did.
    for end in (tool, eos, None, 40):
        assert formatter.following("so", end=end) == [user, *rest]


# Messages that get lost.

LOST = [
    ("llama 2", messages("system: Be brief .", "user: 12 + 13"), "system"),
    ("llama 2", messages("user: 1", "assistant: 2", "tool: 1"), "tool"),
    ("llama 2", messages("user: 1", "assistant: 2", "user: 3", "critic: 3"), "critic"),
    ("mistral", messages("system: Be brief .", "user: 12 + 13"), "system"),
    ("gemma", messages("system: Be brief .", "user: 12 + 13"), "system"),
]


@pytest.mark.parametrize(("name", "asked", "role"), LOST)
def test_a_template_that_loses_a_message_or_takes_none_such_is_refused(name, asked, role):
    with pytest.raises(ValueError, match=f"observation: the chat template .*role.*{role}"):
        PromptFormatter(chat_tokenizer(name)).first(asked)


@pytest.mark.parametrize("name", ["llama 2", "mistral"])
def test_a_message_lost_in_a_later_turn_is_refused(name):
    formatter = PromptFormatter(chat_tokenizer(name))
    formatter.following("so", end=None)
    with pytest.raises(ValueError, match=r"observation: the chat template .*tool"):
        formatter.following(messages("tool: so"), end=None)


LOSING = {
    "the first message": "{% for m in messages[1:] %}{{ m['content'] }}{% endfor %}",
    "all but the last": "{{ messages[-1]['content'] }}",
    "the end of a message": "{% for m in messages %}{{ m['content'][:3] }} {% endfor %}",
    "what the assistant said": "{% for m in messages if m['role'] != 'assistant' %}"
    "{{ m['content'] }}{% endfor %}",
    "some words": "{% for m in messages %}{{ m['content'] | replace('so', '') }}{% endfor %}",
}
