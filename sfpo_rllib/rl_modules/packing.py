"""Sequences one after the other in a single row: no padding is computed.

Attention must keep them apart. The flash kernels do, from the sequences' lengths; for PyTorch's own
kernel an attention function of ours, registered with transformers, takes sequence by sequence.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

PACKED_SDPA = "sfpo_packed_sdpa"
# What a model is run with, by the attn_implementation that was asked for.
PACKED_ATTENTION = {
    None: PACKED_SDPA,
    "sdpa": PACKED_SDPA,
    "flash_attention_2": "flash_attention_2",
    "flash_attention_3": "flash_attention_3",
}


def packed_inputs(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, Any]:
    """Keyword arguments of a transformers model for the tokens without their padding.

    Args:
        input_ids: Padded on the right, shape (B, T).
        attention_mask: True on tokens, shape (B, T).

    Returns:
        `input_ids` and `position_ids` of shape (1, N), row after row, and what the attention
        kernels need to know of the N tokens' B sequences.
    """
    lengths = attention_mask.sum(dim=1)
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    by_sequence = lengths.tolist()
    return {
        "input_ids": input_ids[attention_mask].unsqueeze(0),
        "position_ids": positions[attention_mask].unsqueeze(0),
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(by_sequence),
        "max_length_k": max(by_sequence),
        "sequence_lengths": by_sequence,
    }


def packed_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    sequence_lengths: Sequence[int] | None = None,
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
        sequence_lengths: Of the packed sequences. None: each row is one sequence.
        scaling: Of the scores.
        sliding_window: Of layers that look no further back.
        kwargs: Not used.

    Returns:
        The attended values, shape (1, N, heads, head dimension), and no attention weights.

    Raises:
        ValueError: If a sequence is longer than the sliding window.
    """
    lengths = sequence_lengths or [query.shape[2]]
    if sliding_window is not None and max(lengths) > sliding_window:
        raise ValueError(
            f"model_config['packing']=True: a sequence of {max(lengths)} tokens is longer than the "
            f"model's sliding window of {sliding_window}; use attn_implementation="
            "'flash_attention_2', or no packing"
        )
    parts = (tensor.split(list(lengths), dim=2) for tensor in (query, key, value))
    attended = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=True
        )
        for q, k, v in zip(*parts, strict=True)
    ]
    return torch.cat(attended, dim=2).transpose(1, 2), None


@torch.no_grad()
def check_packing(lm: PreTrainedModel) -> None:
    """Raises a ValueError unless the model keeps packed sequences apart.

    Some models compute positions or mix tokens by means of their own; two short sequences show it.
    """
    vocab = lm.get_input_embeddings().num_embeddings
    ids = torch.arange(12, device=lm.device).view(2, 6) % vocab
    apart = lm.base_model(input_ids=ids, use_cache=False)[0].flatten(0, 1)
    inputs = packed_inputs(ids, torch.ones_like(ids, dtype=torch.bool))
    packed = lm.base_model(**inputs, use_cache=False)[0][0]
    if not torch.allclose(packed, apart, rtol=1e-3, atol=1e-3 * float(apart.abs().max())):
        raise ValueError(
            f"model_config['packing']=True: {type(lm).__name__} does not keep packed sequences "
            "apart; set it to False"
        )


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
