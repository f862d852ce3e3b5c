"""Observations to tokens and replies to text: raw, or through the tokenizer's chat template."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from sfpo_rllib.env_runners.chat_template import MARK, ChatTemplate

PROMPT_FORMATS = ("auto", "raw", "chat")
Observation = str | Sequence[dict[str, str]]

_NUM_RECENT = 64  # more than there are environments at their resets at once
_REPLY = f"{MARK}reply"
_SPECIAL = re.compile(rf"{MARK}(\d+);")
# Tokens with a part to play in a tokenizer, by the names of their attributes. Others are tags.
_CONTROL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class PromptFormatter:
    """Turns what an environment says into the tokens the model reads, and replies into text.

    A string is one user turn of the chat template, or raw tokens; a list of chat messages always
    goes through the template, and if the last one is of the assistant the policy goes on in it.
    Later turns are encoded on their own and appended, so that what the policy sampled is never
    decoded and encoded again.

    Only the template writes control tokens: where an environment's text contains a string such as
    "<|im_end|>", it is encoded as the characters that it is. In what it lets the assistant say tags
    such as "<think>" are the tokens that they would be in the policy's own words.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt_format: str = "auto",
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        stop_token_ids: Collection[int] | None = None,
    ) -> None:
        """Initializes the formatter.

        Args:
            tokenizer: Of the model.
            prompt_format: "chat", "raw", or "auto": chat if the tokenizer has a template.
            chat_template_kwargs: Variables of the template, e.g. `{"enable_thinking": False}`.
            stop_token_ids: The tokens that end a reply. None: the tokenizer's EOS, and whatever
                `following` is told of.

        Raises:
            ValueError: If the format is unknown, is "chat" and there is no template, or the
                template has no such variables.
        """
        if prompt_format not in PROMPT_FORMATS:
            raise ValueError(f"prompt_format={prompt_format!r}: must be one of {PROMPT_FORMATS}")
        has_template = tokenizer.chat_template is not None
        if prompt_format == "chat" and not has_template:
            raise ValueError(
                "prompt_format='chat': the tokenizer has no chat template; use 'raw', or set one"
            )
        self._tokenizer = tokenizer
        self._template = ChatTemplate(
            tokenizer, {} if chat_template_kwargs is None else chat_template_kwargs
        )
        self._chat = has_template if prompt_format == "auto" else prompt_format == "chat"
        added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        # The longest first, as one may begin with another.
        self._special = sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
        self._find_special = _finder(self._special)
        self._stop = None if stop_token_ids is None else frozenset(stop_token_ids)
        self._unseen = {getattr(tokenizer, f"{name}_token_id", None) for name in _CONTROL}
        written = self._template.written_around_messages(self._special)
        control = self._unseen | (self._stop or set())
        self._find_control = _finder(
            special
            for special in self._special
            if special in written or tokenizer.convert_tokens_to_ids(special) in control
        )
        self._raw_start = _tokens_before_text(tokenizer)
        self._recent: dict[str, list[int]] = {}  # of first observations

    def first(self, observation: Observation) -> list[int]:
        """Tokens of the first observation, up to where the reply begins.

        Those of the last few are kept: the members of a group begin alike.

        Raises:
            ValueError: If the template loses a message.
        """
        try:
            key = json.dumps(observation)
        except (TypeError, ValueError):  # messages with more in them than plain data
            return self._first(observation)
        if key not in self._recent:
            self._recent[key] = self._first(observation)
            if len(self._recent) > _NUM_RECENT:
                del self._recent[next(iter(self._recent))]
        return list(self._recent[key])

    def _first(self, observation: Observation) -> list[int]:
        if isinstance(observation, str) and not self._chat:
            return self._raw_start + self._encode_text(observation)
        return self._encode_rendered(self._template.render(self._messages(observation)))

    def following(self, observation: Observation, *, end: int | None) -> list[int]:
        """Tokens between a reply and the next one.

        Args:
            observation: What the environment says next.
            end: The last token of a reply that ended by itself, None if it was cut. A cut reply
                gets its end here, as a token of the environment's, and so does in a chat one that
                ended with a stop string. Raw text goes on after a stop string as it is.

        Raises:
            ValueError: If the template loses a message.
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
        tail = self._template.render(dialogue).split(_REPLY)[-1]
        if end is None or (self._stop is not None and end not in self._stop):
            return self._encode_rendered(tail)
        return self._encode_after(end, tail)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a reply as an environment sees it.

        The token that ended it is left out, and padding and the like; tags such as "<answer>" are
        there even where they are special tokens. Spaces are left as they are.
        """
        ended = self._stop is not None and token_ids and token_ids[-1] in self._stop
        said = token_ids[:-1] if ended else token_ids
        return self._text([i for i in said if i not in self._unseen])

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(
            token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def _messages(self, observation: Observation) -> list[dict[str, str]]:
        """The observation as chat messages, with marks for the special strings in them."""
        if isinstance(observation, str):
            observation = [{"role": "user", "content": observation}]
        if not observation or not all(map(is_message, observation)):
            raise ValueError(
                f"observation={observation!r}: must be a string, or a list of chat messages, dicts "
                "with a 'role' and a 'content' that are strings"
            )
        return [
            message | {"content": self._mark(message["content"], message["role"] == "assistant")}
            for message in observation
        ]

    def _mark(self, text: str, of_the_assistant: bool) -> str:
        find = self._find_control if of_the_assistant else self._find_special
        return find.sub(lambda match: f"{MARK}{self._special.index(match[0])};", text)

    def _encode_after(self, end: int, text: str) -> list[int]:
        """What the template wrote after a reply, without the end that the reply has already."""
        said = self._text([end])
        # Some templates put a space between a reply and its end. A template need not end its turns
        # with this token.
        rest = text if text.startswith(said) else text.lstrip()
        if not said or not rest.startswith(said):
            return self._encode_rendered(text)
        tokens = self._encode_rendered(rest)  # as some tokenizers begin a text with a space
        return tokens[1:] if tokens[0] == end else self._encode_rendered(rest.removeprefix(said))

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


def _finder(strings: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, strings)) or r"(?!)")


def is_message(message: Any) -> bool:
    """Whether it is a chat message: a dict with a role and a content, both texts."""
    return isinstance(message, dict) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )


def _tokens_before_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text, such as BOS."""
    for text in ("0", "a", "."):  # characters that a small vocabulary may lack
        plain = tokenizer.encode(text, add_special_tokens=False)
        whole = tokenizer.encode(text, add_special_tokens=True)
        for start in range(len(whole)):
            if plain and whole[start : start + len(plain)] == plain:
                return whole[:start]
    return []


def stop_token_ids(
    tokenizer: PreTrainedTokenizerBase,
    generation_config: Any,
    model_config: Mapping[str, Any] | None = None,
) -> list[int]:
    """The tokens that end a reply: EOS of the tokenizer, the generation and the model's config.

    Args:
        tokenizer: Of the model.
        generation_config: Anything with an `eos_token_id`, or None.
        model_config: What the model's config.json says, as far as it says something: classes of
            configs have an EOS by default that need not be the model's.

    Raises:
        ValueError: If there is none.
    """
    model_config = model_config or {}
    nested = model_config.get("text_config") or {}
    found: set[int] = set()
    for ids in (
        tokenizer.eos_token_id,
        getattr(generation_config, "eos_token_id", None),
        model_config.get("eos_token_id"),
        nested.get("eos_token_id"),
    ):
        found.update(i for i in (ids if isinstance(ids, list | tuple) else [ids]) if i is not None)
    if not found:
        raise ValueError("model: neither its tokenizer nor its configs name an EOS token")
    return sorted(found)


def load_tokenizer(
    model: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """A model's tokenizer, and the tokens that end its replies.

    Args:
        model: Folder or hub id.
        revision: As in transformers.
        trust_remote_code: As in transformers.

    Raises:
        ValueError: If no token ends a reply.
    """
    tokenizer = AutoTokenizer.from_pretrained(
        model, revision=revision, trust_remote_code=trust_remote_code
    )
    try:
        generation_config = GenerationConfig.from_pretrained(model, revision=revision)
    except OSError:  # not every model folder has one
        generation_config = None
    model_config, _ = PreTrainedConfig.get_config_dict(model, revision=revision)
    return tokenizer, stop_token_ids(tokenizer, generation_config, model_config)
