"""Small tokenizers of the kinds that models have, and chat templates in the manner of theirs."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as training
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ROLES = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
TEXT = [
    "the user says that the assistant says 12 + 13 = 25 .",
    "x = 5 , y ? do n't ; it 's [ so ] ( or not ) !",
    '{"a": 1}, \\n <|x|> / system user assistant tool INST [INST] <<SYS>>',
    "think answer <answer> </answer> <think>",
]
ALPHABET = sorted(set("".join(TEXT)) | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))


def _trained(tokenizer: Tokenizer, special: Sequence[str], **trainer: Any) -> Tokenizer:
    trainer = {"vocab_size": 420, "show_progress": False} | trainer
    kind = training.BpeTrainer(special_tokens=[PAD, BOS, EOS, *special], **trainer)
    tokenizer.train_from_iterator(TEXT * 3, kind)
    return tokenizer


def byte_level(special: Sequence[str] = (), **kwargs: Any) -> PreTrainedTokenizerBase:
    """As of GPT-2, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _trained(tokenizer, special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ROLES, **kwargs)


def metaspace(special: Sequence[str] = (), **kwargs: Any) -> PreTrainedTokenizerBase:
    """As of Llama 2 and Mistral: a space in front of a text's first word; BOS by itself."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    _trained(tokenizer, ["<unk>", *special], initial_alphabet=[*ALPHABET, "\n"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ROLES, unk_token="<unk>", **kwargs)


def word_piece(special: Sequence[str] = (), **kwargs: Any) -> PreTrainedTokenizerBase:
    """As of BERT, whose decoder puts spaces between words; BOS and EOS by itself."""
    words = sorted({word for line in TEXT for word in line.lower().split()})
    letters = [letter.lower() for letter in ALPHABET if letter.strip()]
    known = dict.fromkeys([PAD, BOS, EOS, "<unk>", *special, *words, *letters])
    known |= dict.fromkeys(f"##{letter}" for letter in letters)
    vocab = {word: number for number, word in enumerate(known)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, vocab[BOS]), (EOS, vocab[EOS])]
    )
    return _with_special(tokenizer, special, **ROLES, unk_token="<unk>", **kwargs)


def char_level(special: Sequence[str] = (), **kwargs: Any) -> PreTrainedTokenizerBase:
    """As of the quickstart's model, with BOS besides."""
    vocab = {
        token: i for i, token in enumerate([PAD, BOS, EOS, "<unk>", *special, *ALPHABET, "\n"])
    }
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return _with_special(tokenizer, special, **ROLES, unk_token="<unk>", **kwargs)


def _with_special(
    tokenizer: Tokenizer, special: Sequence[str], **kwargs: Any
) -> PreTrainedTokenizerBase:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **kwargs)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    return fast


KINDS = {
    "byte level": byte_level,
    "metaspace": metaspace,
    "word piece": word_piece,
    "characters": char_level,
}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Of Llama 2, and of Mistral: a space on either side of a reply; roles they do not know are lost.
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% if loop.index0 > 0 and messages[loop.index0 - 1]['role'] == 'user' %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}"
    "{% endif %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
# Of Qwen3: what was thought in earlier turns is left out, and thinking can be turned off.
QWEN3 = (
    "{% for m in messages %}{% set said = m['content'] %}{% if m['role'] == 'assistant' %}"
    "{% if '</think>' in said %}{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% endif %}{% if m['role'] == 'tool' %}{% set said %}<tool_response>\n{{ said }}\n"
    "</tool_response>{% endset %}{% endif %}<|im_start|>"
    "{{ 'user' if m['role'] == 'tool' else m['role'] }}\n{{ said }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# Of Llama 3: contents are trimmed, what a tool said is JSON.
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n"
    "{% if m['role'] == 'tool' %}{{ m['content'] | tojson }}{% else %}{{ m['content'] | trim }}"
    "{% endif %}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
# Of Gemma: no system message.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# The template, what a reply ends with, and the special tokens that it writes.
TEMPLATES: dict[str, tuple[str, str, list[str]]] = {
    "chatml": (CHATML, "<|im_end|>", ["<|im_start|>", "<|im_end|>"]),
    "llama 2": (LLAMA2, EOS, []),
    "mistral": (MISTRAL, EOS, ["[INST]", "[/INST]"]),
    "qwen3": (QWEN3, "<|im_end|>", ["<|im_start|>", "<|im_end|>"]),
    "llama 3": (LLAMA3, "<|eot|>", ["<|start|>", "<|end|>", "<|eot|>"]),
    "gemma": (GEMMA, "<end_of_turn>", ["<start_of_turn>", "<end_of_turn>"]),
}


def chat_tokenizer(template: str, kind: str = "byte level") -> PreTrainedTokenizerBase:
    """A tokenizer with the template of that name."""
    text, _, special = TEMPLATES[template]
    tokenizer = KINDS[kind](special)
    tokenizer.chat_template = text
    return tokenizer


def end_of(tokenizer: PreTrainedTokenizerBase, template: str) -> int:
    """The token that a reply ends with."""
    return int(tokenizer.convert_tokens_to_ids(TEMPLATES[template][1]))
