"""A tokenizer's chat template: messages to text, none of them lost."""

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]

# Stands in a template for what is put there later. No environment can know it.
MARK = f"\u2063{secrets.token_hex(8)}\u2063"

# Arguments of apply_chat_template that are ours to give, or have no part in a prompt.
_NOT_THE_TEMPLATES = {
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
    "truncation",
}


class TemplateRefusal(ValueError):
    """A template does not take such messages, and says so itself."""


class ChatTemplate:
    """Renders chat messages up to where the policy goes on.

    It goes on with a turn of its own, or, where the last message is of the assistant, in that.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, Any]) -> None:
        """Takes the tokenizer's template.

        Args:
            tokenizer: Of the model.
            variables: Of the template, e.g. `{"enable_thinking": False}`.

        Raises:
            ValueError: If the template has no such variables.
        """
        self._tokenizer = tokenizer
        _check_variables(tokenizer, variables)
        self._variables = dict(variables)
        self._complete: set[tuple[Any, ...]] = set()  # kinds of dialogues that lose no message

    def render(self, messages: Sequence[Message]) -> str:
        """Text of a dialogue.

        Raises:
            ValueError: If the text of a message is not in it, or the template takes no such ones.
        """
        if not self._tokenizer.chat_template:
            raise ValueError(
                "observation: must be a string, as the tokenizer has no chat template for messages"
            )
        kind = tuple((message["role"], *sorted(message)) for message in messages)
        if kind not in self._complete:
            self._check_roles(messages)
            self._complete.add(kind)
        text = self._render(messages)
        rendered = _without_spaces(text)
        for message in messages:
            said = message["content"]
            if message["role"] == "assistant":  # templates leave out what was thought before
                said = said.rsplit("</think>", 1)[-1]
            if _without_spaces(said) not in rendered:
                as_json = json.dumps(said, ensure_ascii=False)[1:-1]  # as tools' answers may be
                if _without_spaces(as_json) not in rendered:
                    raise _lost(message)
        return text

    def written_around_messages(self, strings: Iterable[str]) -> set[str]:
        """Those of the strings that the template itself writes in a dialogue."""
        if not self._tokenizer.chat_template:
            return set()
        roles = ("user", "assistant", "user")
        try:
            text = self._tokenizer.apply_chat_template(
                [{"role": role, "content": MARK} for role in roles],
                tokenize=False,
                **self._variables,
            )
        except (TemplateError, TypeError):  # of no such dialogue; it is said where it is rendered
            return set()
        return {string for string in strings if string in text}

    def _check_roles(self, messages: Sequence[Message]) -> None:
        """Raises if a dialogue of such messages loses one, whatever they say."""
        marks = [f"{MARK}message{number}." for number in range(len(messages))]
        probe = [
            {**message, "content": mark} for message, mark in zip(messages, marks, strict=True)
        ]
        try:
            text = self._render(probe)
        except TemplateRefusal:
            raise
        except ValueError as error:  # the last one is continued, which transformers cannot find
            raise _lost(messages[-1]) from error
        for number, mark in enumerate(marks):
            if mark not in text:
                raise _lost(messages[number])

    def _render(self, messages: Sequence[Message]) -> str:
        prefilled = messages[-1]["role"] == "assistant"
        try:
            return self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=not prefilled,
                continue_final_message=prefilled,
                **self._variables,
            )
        except TemplateError as error:
            roles = [message["role"] for message in messages]
            raise TemplateRefusal(
                f"observation: the chat template refuses messages with roles={roles}: {error}"
            ) from error


def _check_variables(tokenizer: PreTrainedTokenizerBase, variables: Any) -> None:
    field = f"chat_template_kwargs={variables!r}"
    if not isinstance(variables, Mapping) or not all(isinstance(name, str) for name in variables):
        raise ValueError(f"{field}: must be a dict of the chat template's variables by their names")
    if not variables:
        return
    template = tokenizer.chat_template
    if not template:
        raise ValueError(f"{field}: must be empty, as the tokenizer has no chat template")
    text = "\n".join(template.values()) if isinstance(template, Mapping) else template
    for name, value in variables.items():
        field = f"chat_template_kwargs[{name!r}]={value!r}"
        if name in _NOT_THE_TEMPLATES:
            raise ValueError(f"{field}: must be left out, it is no variable of the chat template")
        if not re.search(rf"\b{re.escape(name)}\b", text):
            raise ValueError(f"{field}: the tokenizer's chat template knows no such variable")


def _lost(message: Message) -> ValueError:
    said = re.sub(rf"{MARK}\d+;", "...", message["content"])[:80]
    return ValueError(
        f"observation: the chat template loses the message with role={message['role']!r}, its "
        f"content is not in the prompt: {said!r}; give it a role that the "
        "template writes, or the tokenizer another template"
    )


def _without_spaces(text: str) -> str:
    return "".join(text.split())
