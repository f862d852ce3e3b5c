"""Tokens as texts: one after the other they are the text of the whole."""

import pytest
from small_tokenizers import byte_level, char_level, metaspace, word_piece

from sfpo_rllib.recordings.token_texts import TokenTexts

KINDS = {"bytes": byte_level, "metaspace": metaspace, "word piece": word_piece, "chars": char_level}
TEXTS = ["12+34=46", "Two words, and more.", "  spaces  stay ", "naïve 思考 🙂!", "a\n\nb"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_tokens_are_the_text_of_the_whole(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]()
    ids = tokenizer.encode(text, add_special_tokens=False)
    texts = TokenTexts(tokenizer)(ids)
    whole = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert len(texts) == len(ids)
    assert "".join(texts) == whole


def test_a_character_of_several_tokens_stands_at_its_last_and_a_cut_one_is_no_character() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("é🙂", add_special_tokens=False)
    assert len(ids) > 2  # its vocabulary has none of them whole
    texts = TokenTexts(tokenizer)
    assert [text for text in texts(ids) if text] == ["é", "🙂"]
    assert texts(ids[:-1])[-1] == "\ufffd"
    assert texts([]) == []


def test_special_tokens_are_seen() -> None:
    tokenizer = char_level()
    ids = [*tokenizer.encode("1", add_special_tokens=False), tokenizer.eos_token_id]
    assert TokenTexts(tokenizer)(ids)[-1] == tokenizer.eos_token
