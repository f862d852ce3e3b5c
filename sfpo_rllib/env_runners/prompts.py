"""Observations to tokens: raw, or through the tokenizer's chat template."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

PROMPT_FORMATS = ("auto", "raw", "chat")
Observation = str | Sequence[dict[str, str]]


class PromptFormatter:
    """Turns what an environment says into the tokens the model reads.

    A string is one user turn of the chat template, or raw tokens; a list of chat messages always
    goes through the template. Later turns are encoded on their own and appended, so that what the
    policy sampled is never decoded and encoded again.
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

    def first(self, observation: Observation) -> list[int]:
        """Tokens of the first observation, up to where the reply begins."""
        if isinstance(observation, str) and not self._chat:
            return self._encode(observation)
        return self._encode(self._render(_messages(observation), reply_follows=True))

    def following(self, observation: Observation, *, end: int | None) -> list[int]:
        """Tokens between a reply and the next one.

        Args:
            observation: What the environment says next.
            end: The token that ended the reply, None if it was cut. A cut one gets its end here,
                as a token of the environment's.
        """
        if isinstance(observation, str) and not self._chat:
            eos = [self._tokenizer.eos_token_id] if end is None else []
            return eos + self._encode(observation)
        # The template's text after the end of a reply, taken from a dialogue made for it.
        marker = "\u2063reply\u2063"
        dialogue = [
            {"role": "user", "content": "."},
            {"role": "assistant", "content": marker},
            *_messages(observation),
        ]
        tail = self._render(dialogue, reply_follows=True).split(marker)[-1]
        if end is not None:  # a template need not end its turns with the tokenizer's EOS
            tail = tail.removeprefix(self._tokenizer.decode([end]))
        return self._encode(tail)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a reply, without special tokens."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def _render(self, messages: list[dict[str, str]], *, reply_follows: bool) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=reply_follows
        )

    def _encode(self, text: str) -> list[int]:
        # A template writes its own special tokens, and a raw prompt is taken at its word.
        return self._tokenizer.encode(text, add_special_tokens=False)


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


def _messages(observation: Observation) -> list[dict[str, str]]:
    if isinstance(observation, str):
        return [{"role": "user", "content": observation}]
    return [dict(message) for message in observation]
