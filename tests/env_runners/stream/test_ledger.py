"""Whatever becomes of jobs, and in whatever order: every seed is used once, in its place."""

import random
from typing import Any

import pytest

pytest.importorskip("ray")

from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.stream.ledger import Ledger, Ticket

VERSIONS = 4


def job(seeds: range, version: int) -> RolloutJob:
    return RolloutJob(tuple(seeds), version, (7, version), False, 5.0)


def fate(seed: int) -> str:
    """What becomes of a seed, whoever samples it: a function of the data."""
    return "dropped" if seed % 13 == 5 else "whole"


def sampled(job: RolloutJob, *, only: int | None = None) -> RolloutResult:
    """A runner's answer; `only` so many seeds were finished by the deadline."""
    result = RolloutResult()
    for seed in job.seeds[:only]:
        if fate(seed) == "dropped":
            result.dropped[seed] = "why"
        else:
            group: Any = [("group", seed, job.weights_version, job.stream)]
            result.groups[seed] = group
    result.unfinished = list(job.seeds[len(job.seeds) if only is None else only :])
    return result


def happen(
    ledger: Ledger, at_work: list[Ticket], late: list[Ticket], chance: random.Random
) -> None:
    """Something happens to a job that some runner is at, or to one that no one waits for."""
    event = chance.choice(["answer"] * 6 + ["death", "late", "time-out", "stale", "steal", "lapse"])
    if event == "late" and late:
        ledger.answered(late[chance.randrange(len(late))], sampled(late[-1].job))
        return
    if not at_work:
        return
    ticket = at_work.pop(chance.randrange(len(at_work)))
    late.append(ticket)
    if event == "death":
        ledger.lost(ticket, "it died", at_fault=chance.random() < 0.3)
    elif event == "time-out":
        done = chance.randrange(1, len(ticket.job.seeds) + 1)
        ledger.answered(ticket, sampled(ticket.job, only=done))
    elif event == "stale":
        ledger.answered(ticket, RolloutResult(stale_version=-1))
    elif event == "steal":
        ledger.withdrawn(ticket)
    elif event == "lapse":  # an interrupt: the driver has forgotten who was at it
        ledger.keep_only({other.id for other in at_work})
    else:
        late.pop()
        ledger.answered(ticket, sampled(ticket.job))
        if chance.random() < 0.2:  # a second time
            ledger.answered(ticket, sampled(ticket.job))


@pytest.mark.parametrize("seed", range(60))
def test_every_seed_is_used_once_in_order_under_its_own_version(seed: int) -> None:
    chance = random.Random(seed)
    ledger, at_work, late, taken = Ledger(1000), [], [], []
    cursor = 0
    for version in range(VERSIONS):
        for _ in range(3):
            count = chance.randrange(1, 9)
            ledger.open(job(range(cursor, cursor + count), version))
            cursor += count
        for _ in range(chance.randrange(40)):
            while ledger.pending and len(at_work) < 4:
                at_work.append(ledger.pending.popleft())
            happen(ledger, at_work, late, chance)
            while ledger.has_front and chance.random() < 0.5:
                taken.append((version, *ledger.take_front()))
    while not ledger.is_whole:
        at_work += ledger.pending
        ledger.pending.clear()
        happen(ledger, at_work, late, chance)
    taken += [(VERSIONS, *outcome) for outcome in ledger.outcomes()]

    assert [s for _, s, _ in taken] == list(range(cursor))
    for newest, s, outcome in taken:
        if outcome.given_up:  # it was at fault, as far as anybody can tell
            assert "3 attempts" in outcome.reason
        elif fate(s) == "dropped":
            assert (outcome.group, outcome.reason) == (None, "why")
        else:
            version = outcome.weights_version
            assert outcome.group == [("group", s, version, (7, version))]
            assert version <= newest
    by_seed = [outcome.weights_version for _, _, outcome in taken]
    assert by_seed == sorted(by_seed)  # reissued or not


def test_the_group_of_a_job_that_was_lost_is_asked_for_in_the_same_company() -> None:
    ledger = Ledger(1)
    ledger.open(job(range(4), 0))
    ticket = ledger.pending.popleft()
    ledger.lost(ticket, "killed", at_fault=True)
    again = ledger.pending.popleft()
    assert again.job == ticket.job  # what an engine makes of a batch may depend on the batch


def test_what_an_innocent_job_was_behind_is_no_attempt_of_it() -> None:
    ledger = Ledger(10)
    ledger.open(job(range(1), 0))
    for _ in range(10):
        ledger.lost(ledger.pending.popleft(), "another job's fault", at_fault=False)
    ledger.answered(ledger.pending.popleft(), sampled(job(range(1), 0)))
    assert ledger.is_whole and ledger.take_front()[1].group is not None


def test_closed_seeds_are_asked_for_no_more_and_their_answers_are_nobodys() -> None:
    ledger = Ledger(1)
    for start in (0, 4):
        ledger.open(job(range(start, start + 4), 0))
    first, second = ledger.pending.popleft(), ledger.pending[0]
    ledger.forget(lambda seed: seed >= 2)
    assert ledger.seeds == [0, 1] and not ledger.pending
    assert ledger.is_waiting_for(first) and not ledger.is_waiting_for(second)
    ledger.answered(second, sampled(second.job))
    assert ledger.seeds == [0, 1] and not ledger.has_front
    ledger.answered(first, sampled(first.job))
    assert ledger.seeds == [0, 1] and ledger.is_whole
