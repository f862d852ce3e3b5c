"""Observations to tokens: raw, or through the tokenizer's chat template."""

import re
import secrets
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

PROMPT_FORMATS = ("auto", "raw", "chat")
Observation = str | Sequence[dict[str, str]]

# Stand in a template for what is put there later. No environment can know them.
_MARK = f"\u2063{secrets.token_hex(8)}\u2063"
_REPLY = f"{_MARK}reply"
_SPECIAL = re.compile(rf"{_MARK}(\d+);")


class PromptFormatter:
    """Turns what an environment says into the tokens the model reads.

    A string is one user turn of the chat template, or raw tokens; a list of chat messages always
    goes through the template. Later turns are encoded on their own and appended, so that what the
    policy sampled is never decoded and encoded again.

    Only the template writes control tokens: where an environment's text contains a string such as
    "<|im_end|>", it is encoded as the characters that it is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_format: str = "auto") -> None:
        """Initializes the formatter.

        Args:
            tokenizer: Of the model.
            prompt_format: "chat", "raw", or "auto": chat if the tokenizer has a template.

        Raises:
            ValueError: If the format is unknown, or is "chat" and there is no template.
        """
        if prompt_format not in PROMPT_FORMATS:
            raise ValueError(f"prompt_format={prompt_format!r}: must be one of {PROMPT_FORMATS}")
        has_template = tokenizer.chat_template is not None
        if prompt_format == "chat" and not has_template:
            raise ValueError(
                "prompt_format='chat': the tokenizer has no chat template; use 'raw', or set one"
            )
        self._tokenizer = tokenizer
        self._chat = has_template if prompt_format == "auto" else prompt_format == "chat"
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        # The longest first, as one may begin with another.
        self._special = sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
        self._find_special = re.compile("|".join(map(re.escape, self._special)) or r"(?!)")

    def first(self, observation: Observation) -> list[int]:
        """Tokens of the first observation, up to where the reply begins."""
        if isinstance(observation, str) and not self._chat:
            return self._encode_text(observation)
        return self._encode_rendered(self._render(self._messages(observation)))

    def following(self, observation: Observation, *, end: int | None) -> list[int]:
        """Tokens between a reply and the next one.

        Args:
            observation: What the environment says next.
            end: The token that ended the reply, None if it was cut. A cut one gets its end here,
                as a token of the environment's.
        """
        if isinstance(observation, str) and not self._chat:
            eos = [self._tokenizer.eos_token_id] if end is None else []
            return eos + self._encode_text(observation)
        # The template's text after the end of a reply, taken from a dialogue made for it.
        dialogue = [
            {"role": "user", "content": "."},
            {"role": "assistant", "content": _REPLY},
            *self._messages(observation),
        ]
        tail = self._render(dialogue).split(_REPLY)[-1]
        if end is not None:  # a template need not end its turns with the tokenizer's EOS
            tail = tail.removeprefix(self._tokenizer.decode([end]))
        return self._encode_rendered(tail)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a reply, without special tokens."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def _messages(self, observation: Observation) -> list[dict[str, str]]:
        """The observation as chat messages, with marks for the special strings in them."""
        if isinstance(observation, str):
            observation = [{"role": "user", "content": observation}]
        return [message | {"content": self._mark(message["content"])} for message in observation]

    def _mark(self, text: str) -> str:
        return self._find_special.sub(lambda m: f"{_MARK}{self._special.index(m[0])};", text)

    def _render(self, messages: list[dict[str, str]]) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    def _encode_rendered(self, text: str) -> list[int]:
        """What a template wrote: its special tokens as such, those of the messages as text."""
        pieces = _SPECIAL.split(text)  # every other one is the number of a special string
        tokens = self._tokenizer.encode(pieces[0], add_special_tokens=False)
        for number, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            tokens += self._encode_text(self._special[int(number)])
            tokens += self._tokenizer.encode(piece, add_special_tokens=False)
        return tokens

    def _encode_text(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any) -> list[int]:
    """The tokens that end a reply: the tokenizer's EOS and those of the generation config."""
    ids = getattr(generation_config, "eos_token_id", None)
    listed = ids if isinstance(ids, list) else [ids]
    found = {i for i in [tokenizer.eos_token_id, *listed] if i is not None}
    if not found:
        raise ValueError(
            "model: neither its tokenizer nor its generation config names an EOS token"
        )
    return sorted(found)
