"""What a config is refused for."""

from typing import Any

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


def problems_of(config: AlgorithmConfig) -> list[str]:
    """The lines of the one ValueError that `validate()` raises, without its heading."""
    with pytest.raises(ValueError) as caught:
        config.validate()
    heading, *problems = str(caught.value).splitlines()
    assert heading == f"{type(config).__name__}: invalid settings"
    return problems


def one_problem(config: AlgorithmConfig, field: str, value: Any, *right: str) -> None:
    """Checks that the only problem names field, value and what would be right."""
    (problem,) = problems_of(config)
    assert problem.startswith(f"{field}={value!r}: "), problem
    for words in right:
        assert words in problem, problem
