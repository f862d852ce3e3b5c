"""How long prompt and reply may be together."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from sfpo_rllib.core.checks import is_int

UNBOUNDED = 1 << 20  # tokens; of a model that has no limit of its own


def context_length(model_config: PreTrainedConfig, engine_kwargs: Mapping[str, Any]) -> int:
    """Tokens of the longest dialogue: what the engine is told, else the model's own limit.

    Args:
        model_config: Of the model.
        engine_kwargs: As a user gives them; `max_model_len` counts.

    Returns:
        The length; `UNBOUNDED` if neither says one.
    """
    own = getattr(model_config.get_text_config(), "max_position_embeddings", None)
    given = engine_kwargs.get("max_model_len")
    return int((given if is_int(given, 1) else None) or own or UNBOUNDED)  # others are refused
