"""Weights on their way from the learner to the engines: a cast of the masters, as raw bytes.

RLlib turns states into numpy arrays, and numpy has no bfloat16, so the bytes travel as
integers and the dtype beside them.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

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


def unpack_weights(payload: WeightsPayload, *, copy: bool = True) -> dict[str, torch.Tensor]:
    """Undoes `pack_weights`.

    Args:
        payload: Its arrays may be pages that other processes read, too.
        copy: Whether the tensors own their memory. If not, they must only be read.
    """
    dtype = DTYPES[payload["dtype"]]
    with warnings.catch_warnings():
        # torch has no tensors that cannot be written to.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return {
            name: torch.from_numpy(array.copy() if copy else array).view(dtype)
            for name, array in payload["tensors"].items()
        }


def tied_names(model: PreTrainedModel) -> set[str]:
    """The names of tied weights but for those that transformers loads them from."""
    return set(getattr(model, "all_tied_weights_keys", None) or {})


def differing(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The names of arrays or tensors that are missing, unknown or of another shape."""
    shapes, others = ({n: tuple(np.shape(v)) for n, v in of.items()} for of in (own, given))
    return sorted(name for name in shapes | others if shapes.get(name) != others.get(name))


def load_weights(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Loads weights under transformers' names; tied ones may be there once.

    Raises:
        ValueError: If one is missing or unknown.
    """
    missing, unexpected = model.load_state_dict(dict(weights), strict=False)
    lacking = sorted(set(missing) - tied_names(model))
    if lacking or unexpected:
        raise ValueError(
            f"weights: missing {lacking[:3]}, unknown {sorted(unexpected)[:3]}; they must come "
            "from the same model"
        )


def skeleton(
    model: str,
    *,
    dtype: torch.dtype,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A model without weights, on the meta device.

    Args:
        model: Folder or hub id.
        dtype: Of the weights it does not have.
        revision: As in transformers.
        trust_remote_code: As in transformers.
    """
    source = {"trust_remote_code": trust_remote_code}
    config = AutoConfig.from_pretrained(model, revision=revision, **source)
    with torch.device("meta"):
        made: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, **source)
    return made


def checkpoint_format(
    model: PreTrainedModel, weights: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Weights as checkpoints have them, which other programs than transformers load.

    Transformers may hold them under other names, or several in one tensor, as the experts.

    Args:
        model: Of the weights' class; it may be on the meta device.
        weights: Under transformers' names; tied ones may be there under all of them.
        dtype: Floating ones are cast to it.

    Returns:
        Tied ones once, and without what transformers does not save.

    Raises:
        ValueError: If one is missing or unknown.
    """
    tied = tied_names(model)
    own = set(model.state_dict())
    if wrong := (own ^ set(weights)) - tied:
        raise ValueError(
            f"weights: {len(wrong)} missing or unknown, e.g. {sorted(wrong)[:3]}; they must be "
            f"those of a {type(model).__name__}"
        )
    left_out = tied | set(model._keys_to_ignore_on_save or ())
    kept = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
        if name not in left_out
    }
    converted: dict[str, torch.Tensor] = revert_weight_conversion(model, kept)
    return converted
