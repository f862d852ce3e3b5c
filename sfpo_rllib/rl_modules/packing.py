"""Sequences one after the other in a single row: no padding is computed.

Attention must keep them apart. The flash kernels do, from the sequences' lengths; for PyTorch's own
kernel an attention function of ours, registered with transformers, lines up sequences of similar
lengths. Everything else that a model computes, which is most of it, has no padding.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

logger = logging.getLogger(__name__)

PACKED_SDPA = "sfpo_packed_sdpa"
# What a model is run with, by the attn_implementation that was asked for.
PACKED_ATTENTION = {
    None: PACKED_SDPA,
    "sdpa": PACKED_SDPA,
    "flash_attention_2": "flash_attention_2",
    "flash_attention_3": "flash_attention_3",
}
# Sequences are lined up if the shortest has this share of the longest one's length,
SIMILAR = 0.75
# or if none is longer than this: short ones cost less than another call of the kernel.
SHORT = 64


@dataclass(frozen=True)
class LinedUp:
    """Packed sequences in groups of similar lengths, for attention.

    Attributes:
        rows: For each group where its tokens are in the packed row, shape (sequences, longest).
            Beyond its end a sequence repeats its last token, which causal attention never sees.
        places: For each token of the packed row, where it is in all groups' tokens, shape (N,).
        longest: Tokens of the longest sequence.
    """

    rows: tuple[torch.Tensor, ...]
    places: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], packed: torch.Tensor, own: torch.Tensor) -> "LinedUp":
        """Lines up sequences.

        Args:
            lengths: Of the sequences.
            packed: Where a token is in the packed row, shape (B, T).
            own: True on a token that the packed row has from this sequence, shape (B, T).
        """
        sizes = torch.tensor(lengths, device=packed.device)
        rows, places, taken = [], torch.zeros_like(packed), 0
        for group in _similar(lengths):
            longest = lengths[group[0]]
            members = torch.tensor(group, device=packed.device)
            steps = torch.arange(longest, device=packed.device)
            inside = torch.minimum(steps, sizes[members].unsqueeze(1) - 1)
            rows.append(packed[members].gather(1, inside))
            first = torch.arange(len(group), device=packed.device).unsqueeze(1) * longest
            places[members, :longest] = taken + first + steps
            taken += len(group) * longest
        return cls(tuple(rows), places[own], max(lengths))


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of sequences of similar lengths, the longest first."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        if longest and (longest <= SHORT or lengths[i] >= SIMILAR * longest):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def packed_inputs(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, prompt_lens: torch.Tensor | None = None
) -> tuple[dict[str, Any], torch.Tensor]:
    """Keyword arguments of a transformers model for the tokens without their padding.

    Args:
        input_ids: Padded on the right, shape (B, T).
        attention_mask: True on tokens, shape (B, T).
        prompt_lens: Sequences that begin with the same so many tokens share them, shape (B,): a
            group's prompt is computed once. Only `packed_sdpa` can. None: nothing is shared.

    Returns:
        `input_ids` and `position_ids` of shape (1, N), row after row, and what the attention
        kernels need to know of the B sequences in them; and for each token of `input_ids` where it
        is in these N, shape (B, T).
    """
    lengths = attention_mask.sum(dim=1)
    by_sequence = lengths.tolist()
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    own = attention_mask
    owners = None if prompt_lens is None else _owners(input_ids, prompt_lens.tolist())
    if owners is not None and prompt_lens is not None:
        borrows = owners != torch.arange(len(owners), device=owners.device)
        borrowed = borrows.unsqueeze(1) & (positions < prompt_lens.unsqueeze(1))
        own = own & ~borrowed
    packed = own.flatten().cumsum(0).view_as(own) - 1
    if owners is not None:
        packed = torch.where(borrowed, packed[owners], packed)
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    inputs = {
        "input_ids": input_ids[own].unsqueeze(0),
        "position_ids": positions[own].unsqueeze(0),
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(by_sequence),
        "max_length_k": max(by_sequence),
        "lined_up": LinedUp.of(by_sequence, packed, own),
    }
    return inputs, packed


def _owners(input_ids: torch.Tensor, prompt_lens: Sequence[int]) -> torch.Tensor:
    """For each sequence the first one with the same prompt, shape (B,)."""
    firsts: dict[bytes, int] = {}
    rows = input_ids.cpu().numpy()
    owners = [
        firsts.setdefault(row[:length].tobytes(), i)
        for i, (row, length) in enumerate(zip(rows, prompt_lens, strict=True))
    ]
    return torch.tensor(owners, device=input_ids.device)


def packed_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lined_up: LinedUp | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sequence of a packed row, as transformers calls it.

    Args:
        module: The attention layer.
        query: Shape (1, heads, N, head dimension); `key` and `value` may have fewer heads.
        key: See `query`.
        value: See `query`.
        attention_mask: None: transformers makes no mask for a kernel that it does not know.
        lined_up: The packed sequences. None: each row is one sequence.
        scaling: Of the scores.
        sliding_window: Of layers that look no further back.
        kwargs: Not used.

    Returns:
        The attended values, shape (1, N, heads, head dimension), and no attention weights.

    Raises:
        ValueError: If a sequence is longer than the sliding window.
    """
    longest = query.shape[2] if lined_up is None else lined_up.longest
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(
            f"model_config['packing']=True: a sequence of {longest} tokens is longer than the "
            f"model's sliding window of {sliding_window}; use attn_implementation="
            "'flash_attention_2', or no packing"
        )

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        attended = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=True
        )
        return attended.transpose(1, 2)

    if lined_up is None:
        return attend(query, key, value), None
    tokens = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # (N, heads, dimension)
    attended = [
        attend(*(tensor[rows].transpose(1, 2) for tensor in tokens)).flatten(0, 1)
        for rows in lined_up.rows
    ]
    return torch.cat(attended)[lined_up.places].unsqueeze(0), None


def is_packed(lm: PreTrainedModel, wanted: bool | str) -> bool:
    """Whether a model that runs with `PACKED_SDPA` is to be packed, as `packing` has it.

    Raises:
        ValueError: If it is, and the model does not keep packed sequences apart.
    """
    try:
        check_packing(lm, any_length=wanted == "auto")
    except ValueError as error:
        if wanted != "auto":
            raise
        logger.warning("model_config['packing']='auto' is off. %s", error)
        return False
    return True


def leave_packing(models: Iterable[PreTrainedModel | None], attention: str | None) -> None:
    """Has models that run with `PACKED_SDPA` run with what was asked for, or "sdpa", or "eager"."""
    for model in models:
        if model is None or model.config._attn_implementation != PACKED_SDPA:
            continue
        try:
            model.set_attn_implementation(attention or "sdpa")
        except ValueError:  # not every model has it
            model.set_attn_implementation("eager")


@torch.no_grad()
def check_packing(lm: PreTrainedModel, *, any_length: bool = False) -> None:
    """Raises a ValueError unless the model keeps packed sequences apart.

    Some models compute positions or mix tokens by means of their own; two short sequences show it.

    Args:
        lm: The model.
        any_length: Sequences longer than a sliding window, too.
    """
    window = getattr(lm.config, "sliding_window", None)
    if any_length and window is not None:
        raise ValueError(
            f"model_config['packing']=True: {type(lm).__name__} has a sliding window of {window}, "
            "and sequences may be longer"
        )
    vocab = lm.get_input_embeddings().num_embeddings
    ids = torch.arange(12, device=lm.device).view(2, 6) % vocab
    apart = lm.base_model(input_ids=ids, use_cache=False)[0].flatten(0, 1)
    inputs, _ = packed_inputs(ids, torch.ones_like(ids, dtype=torch.bool))
    packed = lm.base_model(**inputs, use_cache=False)[0][0]
    if not torch.allclose(packed, apart, rtol=1e-3, atol=1e-3 * float(apart.abs().max())):
        raise ValueError(
            f"model_config['packing']=True: {type(lm).__name__} does not keep packed sequences "
            "apart; set it to False"
        )


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
