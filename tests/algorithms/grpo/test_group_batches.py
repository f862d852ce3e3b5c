"""Groups are taken out of batches whole, and put together into batches cut as any."""

import itertools
from typing import Any

import pytest

pytest.importorskip("ray")
import torch

from sfpo_rllib.algorithms.grpo.group_batches import GroupBatches
from sfpo_rllib.algorithms.grpo.minibatches import (
    PLACE,
    ROW,
    START_ENTROPY,
    START_LOGP,
    Minibatches,
    cut,
)
from sfpo_rllib.algorithms.grpo.recut import uncut
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
    REFERENCE_LOGP,
)

GROUPS, MEMBERS = 4, 3
SEQUENCES = GROUPS * MEMBERS


def micro_batches(columns: dict[str, torch.Tensor], rows: torch.Tensor) -> list[Any]:
    """Of one learner."""
    mask = columns[LOSS_MASK][rows]
    if not mask.any():
        return []
    return cut(
        columns,
        rows,
        num_tokens=float(mask.sum()),
        num_sequences=float(mask.any(dim=1).sum()),
        aggregation="token",
        longest_episode=8,
        max_tokens=16,
        packed=False,
    )


def batches_of(minibatch_size: int) -> GroupBatches:
    return GroupBatches(
        micro_batches, batch_size=SEQUENCES, group_size=MEMBERS, minibatch_size=minibatch_size
    )


def batch(seed: int, minibatch_size: int = SEQUENCES) -> Minibatches:
    """A rollout batch whose last group, number 3, has equal rewards; token ids say the row."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 9, (SEQUENCES,), generator=generator)
    present = torch.arange(8) < lengths.unsqueeze(1)
    order = torch.randperm(SEQUENCES, generator=generator)
    advantages = torch.randn(SEQUENCES, generator=generator)
    advantages[-MEMBERS:] = 0.0
    columns = {
        INPUT_IDS: (100 * seed + torch.arange(SEQUENCES)).unsqueeze(1) * present,
        ATTENTION_MASK: present,
        LOSS_MASK: present & (torch.arange(8) > 0),
        BEHAVIOUR_LOGP: -torch.rand(SEQUENCES, 8, generator=generator) * present,
        START_LOGP: -torch.rand(SEQUENCES, 8, generator=generator) * present,
        ADVANTAGES: advantages,
        ROW: torch.arange(SEQUENCES),
        PLACE: order.argsort(),
    }
    return [micro_batches(columns, rows) for rows in order.split(minibatch_size)]


def sequences(minibatches: Minibatches) -> dict[int, tuple[Any, ...]]:
    """By first token, all else that training looks at."""
    columns = {name: column[:-1] for name, column in uncut(minibatches).items()}
    return {
        int(columns[INPUT_IDS][row, 0]): (
            *(
                tuple(columns[name][row][columns[ATTENTION_MASK][row]].tolist())
                for name in (INPUT_IDS, LOSS_MASK, BEHAVIOUR_LOGP, START_LOGP)
            ),
            float(columns[ADVANTAGES][row]),
        )
        for row in range(len(columns[ROW]))
    }


@pytest.mark.parametrize("minibatch_size", [3, 4, SEQUENCES])
def test_groups_of_several_batches_make_a_batch_in_which_nothing_is_changed(
    minibatch_size: int,
) -> None:
    ops = batches_of(minibatch_size)
    first, second = batch(1, minibatch_size), batch(2, minibatch_size)
    groups = [*itertools.islice(ops.split(first), 2), *itertools.islice(ops.split(second), 2)]
    joined = ops.join([group for group, _ in groups], second)
    assert len(joined) == SEQUENCES // minibatch_size
    whole = {**sequences(first), **sequences(second)}
    found = sequences(joined)
    assert found == {token: whole[token] for token in found}
    assert sorted(found) == [*range(100, 106), *range(200, 206)]


def test_the_priority_is_the_mean_size_of_the_advantages() -> None:
    new = batch(3)
    priorities = [priority for _, priority in batches_of(SEQUENCES).split(new)]
    by_token = {token: values[-1] for token, values in sequences(new).items()}
    for number, priority in enumerate(priorities):
        members = [abs(by_token[300 + number * MEMBERS + m]) for m in range(MEMBERS)]
        assert priority == pytest.approx(sum(members) / MEMBERS)
    assert priorities[-1] == 0.0


@pytest.mark.parametrize("count", [0, 1])
def test_few_groups_or_none_are_a_batch_of_no_more_mini_batches(count: int) -> None:
    ops = batches_of(4)
    groups = [group for group, _ in ops.split(batch(4))][:count]
    joined = ops.join(groups, batch(5, 4))
    assert len(joined) == count  # those in which nothing counts are left out
    assert not ops.join(groups, [])


def with_column(name: str, minibatches: Minibatches) -> Minibatches:
    return [[{**m, name: 1.0 * m[INPUT_IDS]} for m in micros] for micros in minibatches]


def test_a_batch_of_groups_has_the_columns_that_all_of_them_have() -> None:
    ops, plain, more = batches_of(4), batch(6, 4), with_column(REFERENCE_LOGP, batch(7, 4))
    without, has = ([group for group, _ in ops.split(of)][:2] for of in (plain, more))
    for groups, there in (([*without, *has], False), (has, True), (without, False)):
        joined = ops.join(groups, more)
        columns = {frozenset(m) for micros in joined for m in micros}
        assert [REFERENCE_LOGP in names for names in columns] == [there]


def test_what_recording_alone_asks_for_is_not_kept() -> None:
    groups = [g for g, _ in batches_of(4).split(with_column(START_ENTROPY, batch(8, 4)))]
    assert groups and not any(START_ENTROPY in group for group in groups)
