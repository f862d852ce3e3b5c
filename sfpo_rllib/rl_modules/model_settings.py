"""The settings of a model, `model_config`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from transformers import AutoConfig, PretrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sfpo_rllib.core.checks import (
    BOOL,
    Kind,
    name_problems,
    nearest,
    none,
    one_of,
    same,
    value_problems,
)
from sfpo_rllib.rl_modules.lora_settings import adapter_problems
from sfpo_rllib.rl_modules.packing import PACKED_ATTENTION
from sfpo_rllib.rl_modules.weights import DTYPES

FIELD = "model_config"
# What the algorithm adds, and where that is set.
_ADDED = {"temperature": "sampling['temperature']", "holds_reference": "kl_coeff"}


@dataclass(frozen=True)
class ModelSettings:
    """What a user says about the model.

    Attributes:
        model: Folder or hub id; required.
        dtype: Compute dtype; the weights that are trained are always float32.
        gradient_checkpointing: Whether activations are made again in the backward pass.
        attn_implementation: The attention kernel; None: transformers' default.
        packing: Whether it is computed without padding; for the kernels of `PACKED_ATTENTION`.
            "auto": where the model's attention keeps packed sequences apart.
        trust_remote_code: Whether the model's own code may run.
        revision: Of a hub id.
        lora: Arguments of `peft.LoraConfig`: an adapter is trained, and nothing else.
    """

    model: str | None = None
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    attn_implementation: str | None = None
    packing: bool | str = False
    trust_remote_code: bool = False
    revision: str | None = None
    lora: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Those among what a user gives."""
        return cls(**{key: given[key] for key in MODEL_CONFIG_KEYS if key in given})

    @property
    def source(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` is to be told beside the name."""
        return {"trust_remote_code": self.trust_remote_code, "revision": self.revision}

    def pretrained_config(self) -> PretrainedConfig:
        """The model's own, of transformers."""
        return AutoConfig.from_pretrained(self.model, **self.source)

    def problems(self) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        kinds = {
            "dtype": one_of(*sorted(DTYPES)),
            "gradient_checkpointing": BOOL,
            "packing": BOOL | one_of("auto"),
            "trust_remote_code": BOOL,
            "attn_implementation": _attention() | none("transformers' default"),
        }
        if self.packing is True:
            kinds["attn_implementation"] = Kind(
                lambda kernel: kernel in [*PACKED_ATTENTION],
                f"one of {list(PACKED_ATTENTION)} with packing=True; others do not keep packed "
                "sequences apart",
            )
        return [*value_problems(vars(self), kinds, FIELD), *adapter_problems(self.lora)]


# Accepted keys of model_config, with their defaults.
MODEL_CONFIG_KEYS = {field.name: field.default for field in dataclasses.fields(ModelSettings)}


def _attention() -> Kind:
    """A kernel that transformers knows by now, or one of the hub's."""
    names = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    return Kind(
        lambda kernel: isinstance(kernel, str) and (kernel in names or "/" in kernel),
        f"one of {names}, a kernel of the hub's (owner/name)",
        lambda kernel: nearest(kernel, names),
    )


def model_problems(given: Mapping[str, Any], added: Mapping[str, Any]) -> list[str]:
    """What is wrong with settings as a user gives them, unknown names among them.

    Args:
        given: `model_config`, with what the algorithm adds.
        added: The values that it adds.
    """
    names = name_problems(given, [*MODEL_CONFIG_KEYS, *_ADDED], FIELD)
    elsewhere = [
        f"{FIELD}[{key!r}]={given[key]!r}: must be left out; set {where}"
        for key, where in _ADDED.items()
        if key in added and not same(given.get(key, added[key]), added[key])
    ]
    return [*names, *elsewhere, *ModelSettings.of(given).problems()]
