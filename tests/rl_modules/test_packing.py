"""Attention of packed sequences, against the same sequences one by one."""

import pytest
import torch

pytest.importorskip("transformers")

from sfpo_rllib.rl_modules import packing
from sfpo_rllib.rl_modules.packing import LinedUp, packed_inputs, packed_sdpa

LENGTHS = {
    "one": [5],
    "short": [7, 3, 12, 1, 7],
    "long and short": [100, 64, 65, 3, 200, 150, 1, 99],
}


def lined_up(lengths: list[int]) -> LinedUp:
    """Of sequences that share nothing."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    inputs, _ = packed_inputs(torch.zeros_like(mask, dtype=torch.long), mask)
    return inputs["lined_up"]


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("short", [0, packing.SHORT])
def test_a_packed_sequence_attends_to_itself_alone(lengths, short, monkeypatch):
    monkeypatch.setattr(packing, "SHORT", short)
    torch.manual_seed(0)
    query = torch.randn(1, 4, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(1, 2, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    module = torch.nn.Identity()
    attended, _ = packed_sdpa(
        module, query, key, value, None, lined_up=lined_up(lengths), scaling=0.3
    )
    alone = [
        packed_sdpa(module, *qkv, None, scaling=0.3)[0]
        for qkv in zip(*(t.split(lengths, dim=2) for t in (query, key, value)), strict=True)
    ]
    expected = torch.cat(alone, dim=1)
    torch.testing.assert_close(attended, expected, rtol=1e-12, atol=1e-14)
    weight = torch.randn_like(expected)
    inputs = (query, key, value)
    for actual, right in zip(
        torch.autograd.grad((attended * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(actual, right, rtol=1e-12, atol=1e-14)


def test_sequences_are_lined_up_with_others_of_similar_length():
    groups = lined_up(LENGTHS["long and short"])
    shapes = [tuple(rows.shape) for rows in groups.rows]
    assert shapes == [(2, 200), (2, 100), (2, 65), (2, 3)]
    assert groups.longest == 200
    assert len(groups.places) == sum(LENGTHS["long and short"])


def test_short_sequences_are_lined_up_whatever_their_lengths():
    (rows,) = lined_up(LENGTHS["short"]).rows
    assert rows.shape == (5, 12)


def test_a_prompt_that_several_begin_with_is_there_once():
    ids = torch.tensor(
        [
            [1, 2, 3, 4, 0],  # the prompt 1 2
            [1, 2, 5, 0, 0],
            [1, 2, 6, 7, 8],  # the prompt 1 2 6: another one, though it begins the same
            [1, 2, 9, 9, 0],
            [3, 4, 0, 0, 0],  # no prompt
        ]
    )
    inputs, packed = packed_inputs(ids, ids > 0, torch.tensor([2, 2, 3, 2, 0]))
    assert inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5, 1, 2, 6, 7, 8, 9, 9, 3, 4]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1, 2, 3, 4, 2, 3, 0, 1]]
    for row, places in zip(ids, packed, strict=True):
        count = int((row > 0).sum())
        assert inputs["input_ids"][0, places[:count]].tolist() == row[:count].tolist()
    assert packed[[0, 1, 3], :2].tolist() == [[0, 1]] * 3
