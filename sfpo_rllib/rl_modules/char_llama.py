"""A character-level Llama small enough to warm-start and train on a CPU in minutes.

For the quickstart, tests and benchmarks. Users start from a model of their own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


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

    Returns:
        The folder.
    """
    vocab = {token: i for i, token in enumerate([PAD, EOS, UNKNOWN, *sorted(set(alphabet))])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN
    )
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


def supervised_warm_start(
    folder: str | Path,
    examples: Sequence[tuple[str, str]],
    *,
    steps: int,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """Fine-tunes the model in `folder` on prompt and reply pairs, in place.

    Args:
        folder: A transformers folder.
        examples: Pairs of prompt and reply; the loss counts the reply and EOS.
        steps: Optimizer steps (AdamW, linear warm-up over the first tenth).
        batch_size: Pairs a step.
        lr: Peak learning rate.
        seed: Of the order of the examples.
        on_step: Called after each step with its number and loss.
    """
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    rows = []
    for prompt, reply in examples:
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        reply_ids = [*tokenizer.encode(reply, add_special_tokens=False), tokenizer.eos_token_id]
        rows.append((prompt_ids + reply_ids, [-100] * len(prompt_ids) + reply_ids))
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([i + [tokenizer.pad_token_id] * (width - len(i)) for i, _ in rows])
    labels = torch.tensor([label + [-100] * (width - len(label)) for _, label in rows])

    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    warm_up = max(steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / warm_up, 1.0))
    for step in range(steps):
        pick = torch.randint(len(rows), (batch_size,), generator=generator)
        # Padding stands on the right, where causal attention never looks from a counted token.
        loss = model(input_ids=ids[pick], labels=labels[pick]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step, loss.item())
    model.save_pretrained(folder)
