"""What learners tell of single episodes: each of its own, whoever had it, and nothing twice."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from sfpo_rllib.algorithms.grpo.minibatches import ROW, START_ENTROPY, START_LOGP
from sfpo_rllib.algorithms.grpo.recording_learner import RecordingLearner, take_groups
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES, ATTENTION_MASK, LOSS_MASK


class Bare(RecordingLearner):
    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        raise NotImplementedError


def learner(record_rollouts: int = 1) -> RecordingLearner:
    made: RecordingLearner = object.__new__(Bare)  # without a model
    made.config = SimpleNamespace(record_rollouts=record_rollouts)
    return made


def micro(rows: list[int], *, counted: bool = True, start: bool = True) -> dict[str, torch.Tensor]:
    """Sequences of two prompt tokens and as many sampled ones as their row's number and 1."""
    lengths = torch.tensor([row + 3 for row in rows])
    places = torch.arange(int(lengths.max())).expand(len(rows), -1)
    attention = places < lengths.unsqueeze(1)
    logp = -(10.0 * torch.tensor(rows).unsqueeze(1) + places)
    columns = {
        ROW: torch.tensor(rows),
        ATTENTION_MASK: attention,
        LOSS_MASK: attention & (places >= 2) & counted,
        ADVANTAGES: torch.tensor(rows) / 8,
    }
    return columns | ({START_LOGP: logp, START_ENTROPY: logp.abs() / 100} if start else {})


def test_rows_are_found_in_whatever_micro_batch_they_are_and_let_go_of() -> None:
    one = learner()
    batch = [[micro([3, 0]), micro([2], counted=False)], [micro([1]), micro([3], counted=False)]]
    one.hold_rows(batch)
    assert START_ENTROPY not in batch[0][0] and START_LOGP in batch[0][0]
    first, missing, third = one.take_rows([3, 2, 1])
    assert missing is None
    assert first is not None and third is not None
    assert (first.advantage, third.advantage) == (3 / 8, 1 / 8)
    assert first.logprobs is not None and first.entropies is not None
    assert np.isnan(first.logprobs[:2]).all() and len(first.logprobs) == 6
    assert first.logprobs[2:].tolist() == [-32, -33, -34, -35]
    assert first.entropies[2:].tolist() == pytest.approx([0.32, 0.33, 0.34, 0.35])
    assert one.take_rows([3]) == [None]


def test_a_batch_that_was_refused_has_advantages_alone() -> None:
    one = learner()
    one.hold_rows([[micro([0], start=False)]])
    (numbers,) = one.take_rows([0])
    assert numbers is not None and numbers.advantage == 0
    assert numbers.logprobs is None and numbers.entropies is None


def test_nothing_is_held_where_nothing_is_recorded() -> None:
    one = learner(record_rollouts=0)
    one.hold_rows([[micro([0])]])
    assert one.take_rows([0]) == [None]


def test_each_learner_is_asked_for_the_groups_that_it_had() -> None:
    shares = [[1, 3], [0, 2]]  # of groups of two: rows 0 and 1 of a learner are its first group
    asked: list[tuple[int, list[int]]] = []

    class Learners:
        def ask_one(self, func: Callable[..., Any], number: int, *, rows: list[int]) -> Any:
            asked.append((number, rows))
            fake = SimpleNamespace(take_rows=lambda rows: [(number, row) for row in rows])
            return func(fake, rows=rows)

    found = take_groups(Learners(), shares, 3, group_size=2)  # type: ignore[arg-type]
    assert found == [[(1, 0), (1, 1)], [(0, 0), (0, 1)], [(1, 2), (1, 3)]]
    assert asked == [(0, [0, 1]), (1, [0, 1, 2, 3])]
