"""Tokens as texts that, one after the other, are the text of the whole."""

from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

_CUT = "\ufffd"  # what a decoder writes for the first bytes of a character
_MOST_BYTES = 4  # of a character: what is cut after so many tokens is no character


class TokenTexts:
    """Splits a decoded reply at its tokens.

    A token by itself may decode to something else than it does in its place: to a part of a
    character, or without the space before it. So each is decoded behind the one before it, and a
    character of several tokens stands at the last of them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        @lru_cache(maxsize=1 << 16)
        def decode(ids: tuple[int, ...]) -> str:
            text = tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            return str(text)

        self._decode = decode

    def __call__(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token, special ones too, blank where a character is not whole yet."""
        texts: list[str] = []
        before: tuple[int, ...] = ()
        pending: tuple[int, ...] = ()
        for token in token_ids:
            pending = (*pending, int(token))
            known = self._decode(before) if before else ""
            text = self._decode(before + pending)
            # Some decoders write what stands before differently once something follows.
            new = text[len(known) :] if text.startswith(known) else self._decode(pending)
            if new.endswith(_CUT) and len(pending) < _MOST_BYTES:
                texts.append("")
                continue
            texts.append(new)
            before, pending = pending, ()
        if pending:  # the reply ends within a character
            texts[-1] = _CUT
        return texts
