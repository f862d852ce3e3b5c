"""Rollout engines behind one small interface: ours by name, or a class of the user's own."""

from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.core.checks import nearest
from sfpo_rllib.core.registry import imported, parameters_of
from sfpo_rllib.env_runners.engines.base import (
    GIVEN,
    Completion,
    GenerationRequest,
    RolloutEngine,
)
from sfpo_rllib.env_runners.engines.sampling import SamplingSettings

# Each is imported only when it is asked for.
ENGINES = {
    "vllm": "sfpo_rllib.env_runners.engines.vllm_engine:VLLMEngine",
    "transformers": "sfpo_rllib.env_runners.engines.transformers_engine:TransformersEngine",
}


def engine_class(engine: str | type[RolloutEngine]) -> type[RolloutEngine]:
    """The engine of that name, or the user's own class as it is.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(engine, type) and issubclass(engine, RolloutEngine):
        return engine
    if isinstance(engine, str) and engine in ENGINES:
        found: type[RolloutEngine] = imported(ENGINES[engine])
        return found
    raise ValueError(
        f"rollout_engine={engine!r}: must be one of {tuple(ENGINES)}, or a subclass of "
        f"RolloutEngine{nearest(engine, ENGINES)}"
    )


def make_engine(engine: str | type[RolloutEngine], **kwargs: Any) -> RolloutEngine:
    """Starts an engine.

    Args:
        engine: See `engine_class`.
        kwargs: See `RolloutEngine`. Of those that every engine is offered, it is given what it has
            parameters for.

    Raises:
        ValueError: If there is no such engine.
    """
    cls = engine_class(engine)
    named, anything = parameters_of(cls)
    return cls(**{k: v for k, v in kwargs.items() if anything or k in named or k not in GIVEN})


def gpu_share(config: AlgorithmConfig) -> float:
    """The fraction of a GPU that an engine is given; 0 on a CPU.

    In the driver it shares what the learner was given, half and half.
    """
    local = config.num_env_runners == 0
    return float(config.num_gpus_per_learner / 2 if local else config.num_gpus_per_env_runner)


__all__ = [
    "ENGINES",
    "Completion",
    "GenerationRequest",
    "RolloutEngine",
    "SamplingSettings",
    "engine_class",
    "gpu_share",
    "make_engine",
]
