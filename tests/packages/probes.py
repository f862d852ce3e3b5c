"""How the end-to-end tests look into an algorithm while it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib import GRPO
from sfpo_rllib.token_trace import TokenTrace

ECHO = "my_pkg.envs.task:mine/Echo-v0"

Groups = list[list[SingleAgentEpisode]]
Weights = dict[str, torch.Tensor]


@contextmanager
def learned_groups(algo: GRPO) -> Iterator[list[Groups]]:
    """What the learner is given, one entry a batch."""
    batches: list[Groups] = []
    learn = algo._learn

    def record(groups: Groups) -> list[list[int]]:
        batches.append(groups)
        return learn(groups)

    algo._learn = record
    try:
        yield batches
    finally:
        del algo._learn


def train(algo: GRPO, iterations: int) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Trains; returns the problems (seeds of the groups) and the results of each iteration."""
    with learned_groups(algo) as batches:
        results = [algo.train() for _ in range(iterations)]
    return [seeds(groups) for groups in batches], results


def seeds(groups: Groups) -> list[int]:
    """The problems of groups, in order."""
    return [TokenTrace.of(group[0]).seed for group in groups]


def sfpo_results(result: dict[str, Any]) -> dict[str, Any]:
    """What the learner says about its update."""
    return result["learners"]["default_policy"]["sfpo"]


def assert_equal_weights(one: Weights, other: Weights) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    differing = [name for name in one if not torch.equal(one[name], other[name])]
    assert not differing


def greatest_difference(one: Weights, other: Weights) -> float:
    """Over all weights."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
