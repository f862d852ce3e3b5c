"""What differs between training and evaluation."""

from collections.abc import Iterator, Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


def evaluation_sampling(config: Any, evaluation: Any) -> dict[str, Any]:
    """The `sampling` of evaluation: greedy with `explore=False`, unless it says a temperature.

    Args:
        config: Of the algorithm, with its `evaluation_config`.
        evaluation: What RLlib has made of the two.
    """
    sampling: dict[str, Any] = evaluation.sampling
    overrides = config.evaluation_config
    if evaluation.explore:
        return sampling
    if isinstance(overrides, AlgorithmConfig):  # whole, so that all its settings are said
        says_temperature = sampling.get("temperature") != config.sampling.get("temperature")
    else:
        said = (overrides or {}).get("sampling")
        says_temperature = isinstance(said, Mapping) and "temperature" in said
    return sampling if says_temperature else {**sampling, "temperature": 0.0}


def exploration_problems(config: AlgorithmConfig) -> Iterator[str]:
    """That replies are sampled where policies are trained on them."""
    if not config.explore and not config.in_evaluation:
        yield (
            f"explore={config.explore!r}: must be True in training, as greedy replies of a group "
            "would all be the same; in evaluation_config it may be False"
        )


def grades_training_problems(config: AlgorithmConfig, evaluation: AlgorithmConfig) -> bool:
    """Whether evaluation has training's environment with training's options."""
    try:
        return bool(
            (config.env, config.env_config) == (evaluation.env, evaluation.env_config),
        )
    except ValueError:  # arrays among them, other ones
        return False
