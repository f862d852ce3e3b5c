"""Teaches a small model a task halfway by example, so that reinforcement has something to go on.

For the examples and the benchmarks. Users start from a model of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class WarmStart:
    """How a warm start ended: after so many steps, at this expected sampled accuracy."""

    steps: int
    accuracy: float


def supervised_warm_start(
    folder: str | Path,
    examples: Sequence[tuple[str, str]],
    *,
    target_accuracy: float,
    check_on: Sequence[tuple[str, str]] | None = None,
    max_steps: int = 2000,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    check_every: int = 25,
    on_check: Callable[[WarmStart], None] | None = None,
) -> WarmStart:
    """Fine-tunes the model in `folder` on prompt and reply pairs, in place, up to an accuracy.

    The accuracy is the one to be expected when sampling at temperature 1: the mean probability of
    the whole reply, EOS included.

    Args:
        folder: A transformers folder.
        examples: Pairs of prompt and reply. The loss counts the reply and EOS.
        target_accuracy: Where to stop.
        check_on: Pairs whose accuracy is watched; by default the first 1024 examples.
        max_steps: Optimizer steps (AdamW, linear warm-up over the first 50) at most.
        batch_size: Pairs a step.
        lr: Peak learning rate.
        seed: Of the order of the examples.
        check_every: Steps between two looks at the accuracy.
        on_check: Called after each of them.

    Returns:
        Steps taken and accuracy reached.
    """
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids, labels = _encode(tokenizer, examples)
    check_ids, check_labels = _encode(tokenizer, check_on or examples[:1024])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 50, 1.0))
    state = WarmStart(steps=0, accuracy=_expected_accuracy(model, check_ids, check_labels))
    while state.accuracy < target_accuracy and state.steps < max_steps:
        for _ in range(check_every):
            pick = torch.randint(len(ids), (batch_size,), generator=generator)
            # Padding stands on the right, where causal attention never looks from a counted token.
            loss = model(input_ids=ids[pick], labels=labels[pick]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy = _expected_accuracy(model, check_ids, check_labels)
        state = WarmStart(state.steps + check_every, accuracy)
        if on_check is not None:
            on_check(state)
    model.save_pretrained(folder)
    return state


_IGNORED = -100  # transformers' label of tokens that do not count


def _encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of the examples, padded on the right, each of shape (N, T)."""
    rows = []
    for prompt, reply in examples:
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        reply_ids = [*tokenizer.encode(reply, add_special_tokens=False), tokenizer.eos_token_id]
        rows.append((prompt_ids + reply_ids, [_IGNORED] * len(prompt_ids) + reply_ids))
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), _IGNORED)
    for row, (row_ids, row_labels) in enumerate(rows):
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        labels[row, : len(row_ids)] = torch.tensor(row_labels)
    return ids, labels


@torch.no_grad()
def _expected_accuracy(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean probability of sampling exactly the labelled reply, EOS included."""
    logp = model(input_ids=ids).logits[:, :-1].log_softmax(dim=-1)
    targets = labels[:, 1:]
    token_logp = logp.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return float((token_logp * (targets != _IGNORED)).sum(dim=1).exp().mean())
