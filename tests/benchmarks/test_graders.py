"""The benchmark of graders measures what it says."""

import time
from itertools import islice

import pytest
from sfpo_envs.graders.extraction import last_boxed
from sfpo_envs.graders.sight import equal_at_sight

from benchmarks.graders.replies import KINDS, NUM_WORDS, problems
from benchmarks.graders.timing import CLOCKS, compare_rates, direct, ours


@pytest.mark.parametrize("kind", KINDS)
def test_replies_are_unique_of_one_length_and_end_in_their_only_box(kind):
    batch = list(islice(problems(kind, seed=1), 200))
    assert len({one.reply for one in batch}) == len({one.gold for one in batch}) == 200
    assert 0.3 < sum(one.is_right for one in batch) / 200 < 0.7
    for one in batch:
        assert len(one.reply.split()) == NUM_WORDS
        assert one.reply.count(r"\boxed") == 1


def test_integers_are_decided_at_sight_and_latex_is_not():
    for kind, is_decided in (("integers", True), ("latex", False)):
        for one in islice(problems(kind, seed=2), 50):
            at_sight = equal_at_sight(one.gold, last_boxed(one.reply))
            assert (at_sight is not None) is is_decided


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_give_the_right_verdicts(kind):
    for judge in (ours(), direct()):
        for one in islice(problems(kind, seed=3), 4):
            assert judge(one.reply, one.gold) is one.is_right


def test_rates_come_with_their_intervals():
    row = compare_rates("latex", samples=2, block=2)
    assert row["ours_right"] == row["direct_right"] == 1
    for clock in CLOCKS:
        low, high = row[clock]["ours_per_s"]["interval"]
        assert 0 < low <= row[clock]["ours_per_s"]["value"] <= high


def test_the_clock_of_cpu_time_counts_the_workers():
    judge = ours()
    batch = list(islice(problems("latex", seed=4), 20))
    judge(batch[0].reply, batch[0].gold)  # starts the worker
    started, own = CLOCKS["cpu"](), time.process_time()
    for one in batch:
        judge(one.reply, one.gold)
    in_all, own = CLOCKS["cpu"]() - started, time.process_time() - own
    assert in_all > 2 * own  # the worker does nearly all of the work
