"""Micro-batches and learners' shares: complete, within their budget, even."""

import random
import time

import pytest

from sfpo_rllib.core.balance import even_shares, micro_batches, prompts_together

LENGTHS = random.Random(0).choices(range(1, 60), k=40)


def tokens(part: list[int], *, packed: bool) -> int:
    lengths = [LENGTHS[i] for i in part]
    return sum(lengths) if packed else len(lengths) * max(lengths)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("max_tokens", [10, 59, 100, 500, 10_000])
def test_every_sequence_is_in_one_micro_batch_within_the_budget(packed, max_tokens):
    parts = micro_batches(LENGTHS, max_tokens=max_tokens, packed=packed)
    assert sorted(i for part in parts for i in part) == list(range(len(LENGTHS)))
    assert all(len(part) == 1 or tokens(part, packed=packed) <= max_tokens for part in parts)
    assert all(parts)


def test_as_few_as_the_budget_allows():
    packed = micro_batches([4, 3, 2, 4, 3, 2], max_tokens=9, packed=True)
    assert len(packed) == 2
    assert len(micro_batches([5] * 12, max_tokens=20)) == 3


def test_packed_micro_batches_are_of_similar_sizes():
    sizes = [
        tokens(part, packed=True) for part in micro_batches(LENGTHS, max_tokens=300, packed=True)
    ]
    assert len(sizes) > 2
    assert max(sizes) - min(sizes) <= max(LENGTHS)


@pytest.mark.parametrize("longest", [60, 100, 250, 500])
def test_no_number_of_even_micro_batches_that_fits_is_smaller(longest):
    lengths = random.Random(longest).choices(range(1, longest + 1), k=80)
    parts = micro_batches(lengths, max_tokens=500, packed=True)
    for count in range(-(-sum(lengths) // 500), len(parts)):
        loads = [0] * count
        for length in sorted(lengths, reverse=True):
            loads[loads.index(min(loads))] += length
        assert max(loads) > 500


def test_a_tight_packing_is_kept_where_an_even_spread_would_need_another_micro_batch():
    parts = micro_batches([3, 2, 2, 3, 2] * 4, max_tokens=6, packed=True)
    assert len(parts) == 8


def test_thousands_of_sequences_of_which_no_two_fit_are_cut_at_once():
    lengths = random.Random(0).choices(range(8200, 8400), k=2048)
    start = time.process_time()
    parts = micro_batches(lengths, max_tokens=16_384, packed=True)
    assert len(parts) == 2048
    assert time.process_time() - start < 0.5  # trying one number of them after another: 2.6 s


def test_padding_is_small_where_lengths_are_similar():
    def padded(parts: list[list[int]]) -> int:
        return sum(tokens(part, packed=False) for part in parts)

    parts = micro_batches(LENGTHS, max_tokens=200)
    as_they_come = [list(range(i, i + 4)) for i in range(0, 40, 4)]
    assert padded(parts) - sum(LENGTHS) < (padded(as_they_come) - sum(LENGTHS)) / 3


def test_no_sequences_are_no_micro_batches():
    assert micro_batches([], max_tokens=10) == micro_batches([], max_tokens=10, packed=True) == []


@pytest.mark.parametrize("num_shares", [1, 2, 4, 8])
def test_shares_are_of_equal_numbers_and_similar_sizes(num_shares):
    shares = even_shares(LENGTHS, num_shares)
    assert sorted(i for share in shares for i in share) == list(range(len(LENGTHS)))
    assert {len(share) for share in shares} == {len(LENGTHS) // num_shares}
    sizes = [sum(LENGTHS[i] for i in share) for share in shares]
    assert max(sizes) - min(sizes) <= max(LENGTHS)


def test_shares_that_cannot_be_even_are_refused():
    with pytest.raises(ValueError, match="num_shares=3"):
        even_shares([1, 2, 3, 4], 3)


# Prompts that are shared.


def test_sequences_with_the_same_prompt_stay_together_and_count_it_once() -> None:
    prompts = ["a", "b", "a", "b", "c", "c"]
    parts = prompts_together(prompts, [10] * 6, [12] * 6, max_tokens=14)
    assert sorted(map(sorted, parts)) == [[0, 2], [1, 3], [4, 5]]
    parts = prompts_together(prompts, [10] * 6, [12] * 6, max_tokens=28)
    assert sorted(map(len, parts)) == [2, 4]
    assert prompts_together(prompts, [10] * 6, [12] * 6, max_tokens=42) == [[0, 2, 1, 3, 4, 5]]


def test_those_that_do_not_fit_together_are_halved_until_they_do() -> None:
    parts = prompts_together(["a"] * 8, [10] * 8, [15] * 8, max_tokens=20)
    assert sorted(map(sorted, parts)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    parts = prompts_together(["a"] * 3, [10] * 3, [15] * 3, max_tokens=1)
    assert sorted(parts) == [[0], [1], [2]]  # each longer than that


def test_where_no_prompts_are_equal_they_are_the_micro_batches_of_sequences() -> None:
    lengths = [7, 3, 9, 4, 4, 8, 2, 6]
    for max_tokens in (9, 12, 20, 100):
        assert prompts_together(range(8), [2] * 8, lengths, max_tokens=max_tokens) == (
            micro_batches(lengths, max_tokens=max_tokens, packed=True)
        )
