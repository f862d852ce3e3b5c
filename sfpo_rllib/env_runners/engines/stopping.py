"""Where a reply ends: at a stop token, or where its text completes a stop string."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase, TokenizersBackend

# How the Rust code behind `DecodeStream` begins to say that its state is spoilt.
_INVALID_PREFIX = "Invalid prefix encountered"


class StopStrings:
    """Reads a reply token by token and says when its text has a stop string, as vLLM does.

    The text goes on from the prompt's, and special tokens are part of it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], stop: Sequence[str]
    ) -> None:
        """Begins a reply.

        Args:
            tokenizer: Of the model.
            prompt_ids: What the reply follows.
            stop: The strings, none of them empty.
        """
        self._stop = tuple(stop)
        self._kept = max(map(len, stop)) - 1  # of the text so far, as a string may begin in it
        self._end_of_text = ""
        self._decoder: _StreamDecoder | _WholeDecoder = (
            _StreamDecoder(tokenizer, prompt_ids)
            if isinstance(tokenizer, TokenizersBackend)
            else _WholeDecoder(tokenizer)
        )

    def completed_by(self, token_id: int) -> bool:
        """Takes the next token. Returns whether a stop string ends in its text."""
        text = self._end_of_text + self._decoder.text_of(token_id)
        self._end_of_text = text[-self._kept :] if self._kept else ""
        return any(string in text for string in self._stop)


class _StreamDecoder:
    """Text of token after token, by the tokenizer's own stream: the usual, fast tokenizers."""

    def __init__(self, tokenizer: TokenizersBackend, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._stream = DecodeStream(ids=list(prompt_ids), skip_special_tokens=False)

    def text_of(self, token_id: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token_id) or ""
        except Exception as error:  # of no type of its own
            if not str(error).startswith(_INVALID_PREFIX):
                raise
            # Bytes that are no UTF-8 can spoil a stream's state: it begins anew.
            self._stream = DecodeStream(skip_special_tokens=False)
            return self._stream.step(self._tokenizer, token_id) or ""


class _WholeDecoder:
    """The same by decoding the whole reply each time, for tokenizers in Python."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._token_ids: list[int] = []
        self._length = 0

    def text_of(self, token_id: int) -> str:
        self._token_ids.append(token_id)
        text = self._tokenizer.decode(self._token_ids, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd"):  # half a character
            return ""
        new = text[self._length :]
        self._length = len(text)
        return new
