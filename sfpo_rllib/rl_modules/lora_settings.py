"""The settings of an adapter, `model_config["lora"]`."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from sfpo_rllib.core.checks import (
    BOOL,
    Kind,
    integer,
    is_int,
    is_number,
    name_problems,
    none,
    number,
    problems_of,
    raise_problems,
    value_problems,
)
from sfpo_rllib.rl_modules.lora import add_lora, pattern_problems

FIELD = "model_config['lora']"
INITS = (True, "gaussian")
_LAYERS = none() | Kind(
    lambda names: (
        isinstance(names, str)
        or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    ),
    "a text or a list of texts",
)
# The arguments of `peft.LoraConfig` that are supported. The others must be left as they are: they
# train or change more than the adapter's matrices, which is all that an engine is sent.
SUPPORTED = {
    "r": integer(1),
    "target_modules": _LAYERS,
    "exclude_modules": _LAYERS,
    "layers_pattern": _LAYERS,
    "layers_to_transform": Kind(lambda layers: True, "anything"),  # peft looks at them
    "rank_pattern": none()
    | Kind(
        lambda ranks: (
            isinstance(ranks, Mapping) and all(is_int(rank, 1) for rank in ranks.values())
        ),
        "a dict from names of layers to integers >= 1",
    ),
    "lora_alpha": number(above=0.0),
    "alpha_pattern": none()
    | Kind(
        lambda alphas: (
            isinstance(alphas, Mapping)
            and all(is_number(alpha, above=0.0) for alpha in alphas.values())
        ),
        "a dict from names of layers to numbers > 0",
    ),
    "use_rslora": BOOL,
    "use_dora": BOOL,
    "fan_in_fan_out": BOOL,
    "init_lora_weights": Kind(
        lambda init: any(init is known or init == known == "gaussian" for known in INITS),
        f"one of {INITS}; others change the base model, or begin with another policy than it",
    ),
}


def adapter_problems(lora: Any) -> list[str]:
    """What is wrong with an adapter's settings as a user gives them, None for no adapter."""
    if lora is None:
        return []
    if not isinstance(lora, dict):
        return [
            f"{FIELD}={lora!r}: must be None or a dict of peft.LoraConfig's arguments, e.g. "
            "{'r': 16, 'lora_alpha': 32, 'target_modules': 'all-linear'}"
        ]
    if importlib.util.find_spec("peft") is None:
        return [f"{FIELD}={lora!r}: peft is not installed; pip install 'peft>=0.21,<0.22'"]
    kinds = {key: kind for key, kind in SUPPORTED.items() if key in lora}
    return [*_unsupported(lora), *value_problems(lora, kinds, FIELD)]


def adapter_model_problems(
    lora: Any, model_config: PretrainedConfig, *, trust_remote_code: bool
) -> list[str]:
    """Whether a model takes the adapter: it is built without weights."""
    if lora is None or adapter_problems(lora):
        return []

    def build() -> None:
        with torch.device("meta"):
            lm = AutoModelForCausalLM.from_config(model_config, trust_remote_code=trust_remote_code)
            add_lora(lm, lora)
        raise_problems(pattern_problems(lm, lora, FIELD))

    return problems_of(build)


def _unsupported(lora: Mapping[str, Any]) -> list[str]:
    from peft import LoraConfig

    others = {key: value for key, value in lora.items() if key not in SUPPORTED}
    known = {field.name for field in dataclasses.fields(LoraConfig)} & {*others}
    unknown = {key: value for key, value in others.items() if key not in known}
    problems = name_problems(unknown, SUPPORTED, FIELD, "argument of peft.LoraConfig")
    defaults = LoraConfig()
    for key, value in others.items():
        if key in known and value != getattr(defaults, key):
            why = (
                "must be 0; log-probs must be the engine's, which drops nothing"
                if key == "lora_dropout"
                else f"must be left at {getattr(defaults, key)!r}; only the adapter's matrices are "
                "trained and sent to the engines"
            )
            problems.append(f"{FIELD}[{key!r}]={value!r}: {why}")
    return problems
