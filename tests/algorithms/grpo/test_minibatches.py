"""A rollout batch cut up: what the pieces hold, and what models are given of them."""

import pytest
import torch

pytest.importorskip("ray")

from sfpo_rllib.algorithms.grpo.minibatches import WEIGHTS, cut
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
    for_models,
)

LENGTHS = [4, 100, 6, 5]


def micro_batches():
    positions = torch.arange(max(LENGTHS)).expand(len(LENGTHS), max(LENGTHS))
    mask = positions < torch.tensor(LENGTHS).unsqueeze(1)
    ids = torch.randint(1, 9, mask.shape, dtype=torch.int32) * mask
    rollouts = {
        INPUT_IDS: ids,
        ATTENTION_MASK: mask,
        LOSS_MASK: mask & (positions >= 2),
        BEHAVIOUR_LOGP: torch.randn(mask.shape) * mask,
        ADVANTAGES: torch.arange(4.0),
    }
    micros = cut(
        rollouts,
        torch.arange(4),
        num_tokens=float(rollouts[LOSS_MASK].sum()),
        num_sequences=4.0,
        aggregation="token",
        longest_episode=100,
        max_tokens=20,
        packed=False,
    )
    return rollouts, micros


def test_a_micro_batch_holds_the_width_of_its_own_sequences_and_no_more():
    rollouts, micros = micro_batches()
    widths = [micro[INPUT_IDS].shape[1] for micro in micros]
    assert sorted(widths) == [6, 100]
    for micro in micros:
        for name, column in micro.items():
            assert column.untyped_storage().nbytes() == column.nbytes, name
    # Nothing is lost: the sequences are those of the batch.
    rows = {int(row): micro for micro in micros for row in micro[ADVANTAGES]}
    for row, micro in rows.items():
        at = micro[ADVANTAGES].tolist().index(float(row))
        for name in (INPUT_IDS, LOSS_MASK, BEHAVIOUR_LOGP):
            assert torch.equal(micro[name][at, : LENGTHS[row]], rollouts[name][row, : LENGTHS[row]])


def test_a_padded_token_of_the_batch_takes_ten_bytes():
    rollouts, micros = micro_batches()
    padded = rollouts[INPUT_IDS].numel()
    assert sum(column.nbytes for column in rollouts.values() if column.ndim == 2) == 10 * padded
    narrow = min(micros, key=lambda micro: micro[INPUT_IDS].shape[1])
    size = sum(column.nbytes for column in narrow.values() if column.ndim == 2)
    assert size == 14 * narrow[INPUT_IDS].numel() and WEIGHTS in narrow


def test_models_get_ids_and_masks_of_64_bits():
    _, (micro, *_) = micro_batches()
    given = for_models(micro)
    assert given[INPUT_IDS].dtype == given[ATTENTION_MASK].dtype == torch.int64
    assert torch.equal(given[INPUT_IDS], micro[INPUT_IDS].long())
    assert micro[INPUT_IDS].dtype == torch.int32 and given.keys() == micro.keys()


def test_where_prompts_are_shared_a_group_is_in_one_micro_batch():
    prompts = torch.arange(6).repeat_interleave(2)  # six groups of two
    ids = torch.cat([prompts[:, None].expand(12, 8), torch.arange(24).view(12, 2)], dim=1).int()
    mask = torch.arange(10).expand(12, 10) >= 8
    rollouts = {
        INPUT_IDS: ids,
        ATTENTION_MASK: torch.ones(12, 10, dtype=torch.bool),
        LOSS_MASK: mask,
    }
    micros = cut(
        rollouts,
        torch.randperm(12, generator=torch.Generator().manual_seed(0)),
        num_tokens=24,
        num_sequences=12,
        aggregation="token",
        longest_episode=2,
        max_tokens=24,  # two groups: 8 + 2 + 2 each
        packed=True,
        shares_prompts=True,
    )
    assert len(micros) == 3
    for micro in micros:
        _, counts = micro[INPUT_IDS][:, 0].unique(return_counts=True)
        assert counts.tolist() == [2, 2]
    assert sum(float(micro[WEIGHTS].sum()) for micro in micros) == pytest.approx(1.0)
