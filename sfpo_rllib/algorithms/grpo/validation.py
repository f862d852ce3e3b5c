"""What takes seconds to find wrong with settings: the model, its prompts, the environment.

No weights are loaded, and nothing is started.
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import get_session, try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from transformers import AutoTokenizer, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from sfpo_rllib.algorithms.grpo.environment_problems import environment_problems
from sfpo_rllib.algorithms.grpo.settings import RolloutSettings
from sfpo_rllib.core.checks import first_line, nearest
from sfpo_rllib.env_runners.engines import engine_class
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.env_values import described
from sfpo_rllib.env_runners.prompts import PROMPT_FORMATS, PromptFormatter
from sfpo_rllib.rl_modules.export import export_problems
from sfpo_rllib.rl_modules.lora_settings import adapter_model_problems, adapter_problems
from sfpo_rllib.rl_modules.model_settings import ModelSettings

_HUB_SECONDS = 10.0


def unknown_problems(given: Mapping[str, Any], known: Mapping[str, Any], cls: type) -> list[str]:
    """Settings that there are none of.

    RLlib sets whatever a dict (Tune's param_space, say) brings, known or not. Names such as
    `__stdout_file__` are Tune's own.

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
        if key not in known and key != "class" and not str(key).startswith("__")
    ]


def engine_problems(engine: Any, engine_kwargs: Any, lora: Any) -> list[str]:
    """What is wrong with an engine, its settings, and an adapter that it is to serve."""
    if not isinstance(engine_kwargs, Mapping):
        return [f"engine_kwargs={engine_kwargs!r}: must be a dict"]
    try:
        cls = engine_class(engine)
    except ValueError as error:
        return [str(error)]
    in_order = lora is not None and not adapter_problems(lora)
    return [*cls.problems(engine_kwargs), *(cls.lora_problems(lora) if in_order else [])]


def task_problems(
    given: Mapping[str, Any],
    rollouts: RolloutSettings,
    *,
    engine_kwargs: Any,
    env: Any,
    env_config: Mapping[str, Any],
    needs_problem_ids: bool = False,
) -> Iterator[str]:
    """What is wrong with model and environment, and whether its prompts fit the model.

    Args:
        given: `model_config`.
        rollouts: How prompts are made, and how long an environment may take.
        engine_kwargs: See `context_length`.
        env: The environment.
        env_config: Its options.
        needs_problem_ids: Whether the driver must know which problem a seed shows.
    """
    model = ModelSettings.of(given)
    formatter, context = None, math.inf
    try:
        model_config = _load_model_config(model)
        tokenizer = AutoTokenizer.from_pretrained(model.model, **model.source)
    except Exception as error:
        yield _model_problem(model, error)
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
        needs_problem_ids=needs_problem_ids,
    )


def model_problems(given: Mapping[str, Any]) -> list[str]:
    """Whether a model's configuration can be found, and is of the right kind.

    Args:
        given: `model_config`.
    """
    model = ModelSettings.of(given)
    try:
        _load_model_config(model)
    except Exception as error:
        return [_model_problem(model, error)]
    return []


def _model_problem(model: ModelSettings, error: Exception) -> str:
    name = f"model_config['model']={model.model!r}"
    if isinstance(error, _NotThisModel):
        return f"{name}: {error}"
    return (
        f"{name}: must be a transformers folder with its tokenizer, or a hub id that can be "
        f"reached ({first_line(described(error))})"
    )


class _NotThisModel(Exception):
    """A model that is there, and not what is needed."""


def _load_model_config(model: ModelSettings) -> PretrainedConfig:
    if not model.model or not isinstance(model.model, str | os.PathLike):
        raise _NotThisModel("must be a transformers folder or a hub id")
    _require_found(str(model.model))
    model_config = model.pretrained_config()
    if not model.trust_remote_code and not _is_causal_lm(model_config):
        raise _NotThisModel(
            f"must be a causal language model, and is a {model_config.model_type!r}"
        )
    return model_config


def _require_found(name: str) -> None:
    """Raises if a model is none of this machine's, and no hub can be asked for it.

    Transformers would ask again and again, for half a minute.
    """
    path = Path(name)
    if path.is_dir():
        return
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        what = "is a file" if path.exists() else "there is no such folder"
        raise _NotThisModel(f"must be a transformers folder or a hub id; {what}")
    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        get_session().head(ENDPOINT, timeout=_HUB_SECONDS)
    except Exception as error:
        raise _NotThisModel(
            "must be a transformers folder or a hub id; there is no such folder, and the hub "
            f"cannot be reached ({type(error).__name__})"
        ) from error


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
