"""A character-level Llama small enough to warm-start and train on a CPU in minutes.

For the quickstart, tests and benchmarks. Users start from a model of their own.
"""

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


def char_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters, each a token, besides padding, end and unknown."""
    vocab = {token: i for i, token in enumerate([PAD, EOS, UNKNOWN, *sorted(set(alphabet))])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN
    )


def build_char_llama(
    folder: str | Path,
    *,
    alphabet: str,
    hidden_size: int = 128,
    num_layers: int = 4,
    max_length: int = 64,
    tie_embeddings: bool = True,
    seed: int = 0,
) -> Path:
    """Writes a randomly initialised character-level Llama as a transformers folder.

    Args:
        folder: Where to.
        alphabet: The characters it knows, a token each.
        hidden_size: A multiple of 32; the head dimension is 32, the least vLLM runs on a CPU.
        num_layers: Number of blocks.
        max_length: Context, in tokens.
        tie_embeddings: Whether input and output embedding are one.
        seed: Of the initial weights.
    """
    fast = char_tokenizer(alphabet)
    vocab = fast.get_vocab()
    config = LlamaConfig(
        vocab_size=len(vocab),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 3,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 32,
        max_position_embeddings=max_length,
        tie_word_embeddings=tie_embeddings,
        pad_token_id=vocab[PAD],
        eos_token_id=vocab[EOS],
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return Path(folder)
