"""What can be wrong with the settings of an adapter, `model_config["lora"]`."""

import contextlib
import dataclasses
import difflib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sfpo_rllib.core.values import is_int, is_number
from sfpo_rllib.env_runners.engines import engine_class
from sfpo_rllib.rl_modules.lora import add_lora

if TYPE_CHECKING:
    from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig

# Of peft.LoraConfig; the others must be left as they are: they train or change more than the
# adapter's matrices, which is all that an engine is sent.
SUPPORTED = (
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "init_lora_weights",
)
# Those that leave the base model alone, and begin with an adapter that changes nothing.
INITS = (True, "gaussian")


def lora_problems(config: "GRPOConfig") -> Iterator[str]:
    """What is wrong with the values themselves."""
    lora = config.model_config.get("lora")
    if lora is None:
        return
    if not isinstance(lora, dict):
        yield (
            f"model_config['lora']={lora!r}: must be None or a dict of peft.LoraConfig's "
            "arguments, e.g. {'r': 16, 'lora_alpha': 32, 'target_modules': 'all-linear'}"
        )
        return
    if importlib.util.find_spec("peft") is None:
        yield (
            f"model_config['lora']={lora!r}: peft is not installed; pip install 'sfpo-rllib[peft]'"
        )
        return
    problems = list(_unsupported(lora)) or list(_out_of_range(lora))
    yield from problems
    if not problems:
        with contextlib.suppress(ValueError):  # of an unknown engine
            yield from engine_class(config.rollout_engine).lora_problems(lora)


def lora_model_problems(config: "GRPOConfig") -> Iterator[str]:
    """Whether the model takes the adapter: it is built without weights."""
    lora = config.model_config.get("lora")
    if lora is None or any(lora_problems(config)):
        return
    source = {"trust_remote_code": config.model_config.get("trust_remote_code", False)}
    try:
        model_config = AutoConfig.from_pretrained(
            config.model_config["model"], revision=config.model_config.get("revision"), **source
        )
    except Exception:  # reported with the model
        return
    try:
        with torch.device("meta"):
            add_lora(AutoModelForCausalLM.from_config(model_config, **source), lora)
    except ValueError as error:
        yield str(error)


def _unsupported(lora: dict[str, Any]) -> Iterator[str]:
    from peft import LoraConfig

    defaults = LoraConfig()
    known = {field.name for field in dataclasses.fields(LoraConfig)}
    for key, value in lora.items():
        field = f"model_config['lora'][{key!r}]={value!r}"
        if key not in known:
            near = difflib.get_close_matches(str(key), SUPPORTED, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"{field}: no such argument of peft.LoraConfig{hint}; one of {sorted(SUPPORTED)}"
        elif key == "lora_dropout" and value != 0:
            yield f"{field}: must be 0; log-probs must be the engine's, which drops nothing"
        elif key not in SUPPORTED and value != getattr(defaults, key):
            yield (
                f"{field}: must be left at {getattr(defaults, key)!r}; only the adapter's matrices "
                "are trained and sent to the engines"
            )


def _out_of_range(lora: dict[str, Any]) -> Iterator[str]:
    values = {"r": 8, "lora_alpha": 8, "init_lora_weights": True, **lora}  # peft's defaults
    pattern = values.get("rank_pattern") or {}

    def field(key: str) -> str:
        return f"model_config['lora'][{key!r}]={values[key]!r}"

    if not is_int(values["r"], 1):
        yield f"{field('r')}: must be an integer >= 1"
    elif not isinstance(pattern, dict) or not all(is_int(rank, 1) for rank in pattern.values()):
        yield f"{field('rank_pattern')}: must be a dict from names of layers to integers >= 1"
    if not is_number(values["lora_alpha"], above=0.0):
        yield f"{field('lora_alpha')}: must be a number > 0"
    if values["init_lora_weights"] not in INITS:
        yield (
            f"{field('init_lora_weights')}: must be one of {INITS}; others change the base model, "
            "or begin with another policy than it"
        )
