"""Low-rank adapters (LoRA) by peft: added to a model, switched off, carried, and saved.

peft is optional: it is imported where it is needed.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from sfpo_rllib.rl_modules.weights import differing

LoraSettings = Mapping[str, Any]  # arguments of peft.LoraConfig

# Before each name in the files that peft writes and vLLM reads.
_PREFIX = "base_model.model."
# Which layers have an adapter, in other words than their names.
_SELECTION = ("exclude_modules", "layers_to_transform", "layers_pattern")


def add_lora(lm: PreTrainedModel, settings: LoraSettings) -> None:
    """Freezes a model and adds an adapter to it, which changes nothing until it is trained.

    Args:
        lm: The model; the adapter's weights get the dtype of the layers they belong to.
        settings: Arguments of `peft.LoraConfig`.

    Raises:
        ValueError: If peft refuses the settings, or they are for the embedding or the output layer.
    """
    from peft import LoraConfig

    try:
        lm.add_adapter(LoraConfig(task_type="CAUSAL_LM", **settings))
    except Exception as error:  # peft has many ways to refuse a value, re's among them
        raise ValueError(f"model_config['lora']={settings!r}: peft refuses it: {error}") from error
    # Logits are computed from the output layer's plain weight, which may be the embedding's too.
    for name, layer in (
        ("embedding", lm.get_input_embeddings()),
        ("output layer", lm.get_output_embeddings()),
    ):
        if layer is not None and any(param.requires_grad for param in layer.parameters()):
            raise ValueError(
                f"model_config['lora']['target_modules']={settings.get('target_modules')!r}: must "
                f"not contain the {name} of {type(lm).__name__}; 'all-linear' takes all layers "
                "between the two"
            )


def pattern_problems(lm: PreTrainedModel, settings: LoraSettings, field: str) -> Iterator[str]:
    """Which names in `rank_pattern` and `alpha_pattern` are those of no layer with an adapter.

    Args:
        lm: The model, with its adapter.
        settings: Arguments of `peft.LoraConfig`.
        field: What they are the value of.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import get_pattern_key

    layers = [name for name, layer in lm.named_modules() if isinstance(layer, BaseTunerLayer)]
    for setting in ("rank_pattern", "alpha_pattern"):
        for key, value in (settings.get(setting) or {}).items():
            if not any(get_pattern_key([key], layer) == key for layer in layers):
                kinds = sorted({layer.rpartition(".")[2] for layer in layers})
                yield (
                    f"{field}[{setting!r}][{key!r}]={value!r}: must be for a layer that has an "
                    f"adapter, of {kinds}, and matches none"
                )


def cast_base(lm: PreTrainedModel, dtype: torch.dtype) -> None:
    """Casts the weights that are not trained, and no others."""
    for param in lm.parameters():
        if not param.requires_grad:
            param.data = param.data.to(dtype)


def adapter_weights(lm: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The adapter's own tensors, not copies, under the names of peft's files."""
    from peft import get_peft_model_state_dict

    # save_embedding_layers: "auto" may ask the hub about the base model.
    state = get_peft_model_state_dict(lm, save_embedding_layers=False)
    return {_PREFIX + name: tensor.detach() for name, tensor in state.items()}


def load_adapter(lm: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Puts weights into a model's adapter, in place.

    Raises:
        ValueError: If one is missing, unknown, or of another shape.
    """
    _fill(adapter_weights(lm), weights)


@torch.no_grad()
def _fill(own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Copies weights into tensors of the same names, in place."""
    if wrong := differing(own, weights):
        raise ValueError(
            f"weights: {len(wrong)} of the adapter missing, unknown or of another shape, e.g. "
            f"{wrong[:3]}; they must come from the same settings of 'lora'"
        )
    for name, tensor in own.items():
        tensor.copy_(weights[name])


@contextlib.contextmanager
def without_adapter(lm: PreTrainedModel) -> Iterator[None]:
    """The model as it was before the adapter. No gradient may be taken in the body."""
    lm.disable_adapters()
    try:
        yield
    finally:
        lm.enable_adapters()


def write_adapter(
    folder: str | Path,
    weights: Mapping[str, torch.Tensor],
    settings: LoraSettings,
    *,
    base_model: str,
    revision: str | None = None,
) -> None:
    """Writes a folder that peft and vLLM load.

    Args:
        folder: Where to; made if it does not exist.
        weights: See `adapter_weights`.
        settings: Arguments of `peft.LoraConfig` that the adapter was made with.
        base_model: Folder or hub id of the model it was added to.
        revision: Of the base model.
    """
    from peft import LoraConfig

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    kept = {key: value for key, value in settings.items() if key not in _SELECTION}
    layers = {name.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for name in weights}
    LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_model,
        revision=revision,
        # By name, and so the same whoever reads it and whatever the selection was.
        **{**kept, "target_modules": sorted(layers)},
    ).save_pretrained(folder)


@torch.no_grad()
def merged_weights(
    lm: PreTrainedModel, weights: Mapping[str, torch.Tensor], settings: LoraSettings
) -> dict[str, torch.Tensor]:
    """The weights of a model with an adapter added to them, under transformers' names.

    Args:
        lm: The model that the adapter was trained on, in float32; it is changed in place.
        weights: Of the adapter, see `adapter_weights`.
        settings: Arguments of `peft.LoraConfig` that it was made with.

    Raises:
        ValueError: If the adapter is of another model.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    adapted = get_peft_model(lm, LoraConfig(task_type="CAUSAL_LM", **settings))
    _fill(get_peft_model_state_dict(adapted, save_embedding_layers=False), weights)
    merged: PreTrainedModel = adapted.merge_and_unload()
    return {name: tensor.detach() for name, tensor in merged.state_dict().items()}


def largest_rank(settings: LoraSettings) -> int:
    """The rank of the adapter's largest pair of matrices."""
    default = 8  # peft's
    ranks: list[int] = [
        settings.get("r", default),
        *(settings.get("rank_pattern") or {}).values(),
    ]
    return max(ranks)
