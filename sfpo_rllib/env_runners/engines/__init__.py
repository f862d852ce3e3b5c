"""Rollout engines behind one small interface."""

from typing import Any

from sfpo_rllib.env_runners.engines.base import (
    Completion,
    GenerationRequest,
    RolloutEngine,
)
from sfpo_rllib.env_runners.engines.sampling import SamplingSettings

ENGINES = ("vllm", "transformers")


def make_engine(name: str, *, gpu_share: float, **kwargs: Any) -> RolloutEngine:
    """Starts the engine of that name; each is imported only when it is asked for.

    Args:
        name: One of `ENGINES`.
        gpu_share: Fraction of a GPU the runner was given, 0 on a CPU.
        kwargs: See `RolloutEngine`.

    Raises:
        ValueError: If `name` is unknown.
    """
    if name == "vllm":
        from sfpo_rllib.env_runners.engines.vllm_engine import VLLMEngine

        return VLLMEngine(gpu_share=gpu_share or 1.0, **kwargs)
    if name == "transformers":
        from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine

        return TransformersEngine(**kwargs)
    raise ValueError(f"rollout_engine={name!r}: must be one of {ENGINES}")


__all__ = [
    "ENGINES",
    "Completion",
    "GenerationRequest",
    "RolloutEngine",
    "SamplingSettings",
    "make_engine",
]
