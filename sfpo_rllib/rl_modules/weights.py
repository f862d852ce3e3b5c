"""Weights on their way from the learner to the engines: a cast of the masters, as raw bytes.

RLlib turns states into numpy arrays, and numpy has no bfloat16, so the bytes travel as
integers and the dtype beside them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

WeightsPayload = dict[str, Any]

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Integers of the same width, in torch and so in numpy.
_CARRIERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def pack_weights(tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> WeightsPayload:
    """Casts floating tensors to `dtype` and packs all of them for the way to the engines.

    Args:
        tensors: Weights under transformers' names.
        dtype: What the engines compute in: float32 or bfloat16.

    Returns:
        `{"dtype": name, "tensors": {name: array of the raw bytes}}`.
    """
    carrier = _CARRIERS[dtype]
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "tensors": {
            name: tensor.detach().to("cpu", dtype).contiguous().view(carrier).numpy()
            for name, tensor in tensors.items()
        },
    }


def unpack_weights(payload: WeightsPayload) -> dict[str, torch.Tensor]:
    """Undoes `pack_weights`. The tensors own their memory: the payload may be a shared page."""
    dtype = DTYPES[payload["dtype"]]
    return {
        name: torch.from_numpy(array.copy()).view(dtype)
        for name, array in payload["tensors"].items()
    }


def load_weights(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Loads weights under transformers' names; tied ones may be there once.

    Raises:
        ValueError: If one is missing or unknown.
    """
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
    if set(missing) - tied or unexpected:
        raise ValueError(
            f"weights: missing {sorted(set(missing) - tied)[:3]}, unknown "
            f"{sorted(unexpected)[:3]}; they must come from the same model"
        )
