"""Batches in order, each under the weights that its number names, whatever the runners do."""

import random
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("ray")

from fake_runners import FakeRunners, Sample, complete, weights

from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.stream import (
    Batch,
    Curriculum,
    Fleet,
    GroupStream,
    ProblemChooser,
    fleet,
)
from sfpo_rllib.env_runners.stream.ledger import MAX_ATTEMPTS

BATCH = 6


def is_equal(group: Any) -> bool:
    """Whether a group is one of those whose rewards are equal."""
    return group[0][1] % 5 == 2


class Driver:
    """Trains: an update is a new version."""

    def __init__(
        self,
        runners: FakeRunners,
        *,
        max_staleness: int,
        job_size: int = 2,
        at_most: int = 0,
        version: int = 0,
        chooser: ProblemChooser | None = None,
    ) -> None:
        self.runners = runners
        self.fleet = Fleet(
            runners,  # type: ignore[arg-type]
            timeout_s=5.0,
            restore=self.restore,
            restore_timeout_s=1.0,
        )
        self.stream = GroupStream(
            self.fleet,
            run_seed=3,
            cursor=100,
            batch_size=BATCH,
            job_size=job_size,
            max_staleness=max_staleness,
            timeout_s=5.0,
            num_runners=len(runners.samples),
            chooser=chooser,
        )
        self.version, self._at_most = version, at_most
        self.fleet.publish(weights(version))

    def restore(self) -> None:
        self.runners.revive(*self.runners.samples)
        self.fleet.welcome(self.runners.samples)

    def take(self) -> Batch:
        return self.stream.take(
            self.version, version=self.version, set_aside=is_equal, at_most=self._at_most
        )

    def step(self) -> Batch:
        batch = self.take()
        self.version += 1
        self.fleet.publish(weights(self.version))
        return batch


def contents(batches: list[Batch]) -> list[list[Any]]:
    """All that a batch is: problems, sampling seeds and weights, in order."""
    return [[group[0][1:] for group in batch.groups] for batch in batches]


@pytest.fixture(autouse=True)
def fake_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "calls_on", lambda runners: runners)


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
def test_batch_t_is_of_the_next_seeds_under_the_weights_of_t_minus_s(staleness: int) -> None:
    driver = Driver(FakeRunners([complete] * 2), max_staleness=staleness)
    batches = [driver.step() for _ in range(8)]
    for t, batch in enumerate(contents(batches)):
        version = max(0, t - staleness)
        seeds = range(100 + BATCH * t, 100 + BATCH * (t + 1))
        assert batch == [(seed, (3, t), version) for seed in seeds]
        assert batches[t].versions == [version] * BATCH


def chaotic(chance: random.Random | None = None) -> Sample:
    """A runner that is lost now and then, no seed's fault; it drops what it always drops."""
    losses: Counter[int] = Counter()

    def sample(job: RolloutJob) -> RolloutResult | None:
        may = max(losses[seed] for seed in job.seeds) < MAX_ATTEMPTS - 1
        if chance and may and chance.random() < 0.3:
            losses.update(job.seeds)
            return None
        result = complete(job)
        result.dropped = {seed: "why" for seed in job.seeds if seed % 7 == 3}
        result.groups = {s: g for s, g in result.groups.items() if s not in result.dropped}
        return result

    return sample


def chooser() -> ProblemChooser:
    """Of 17 problems, of which some are always solved and some never."""
    return ProblemChooser(
        Curriculum(),
        lambda seed: seed % 17,
        lambda group: {0: "solved", 1: "hopeless"}.get(group[0][1] % 17 % 3),  # type: ignore
    )


@pytest.mark.parametrize("choose", [lambda: None, chooser])
@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_batches_do_not_depend_on_the_runners_or_on_what_befalls_them(
    staleness: int, choose: Any
) -> None:
    settings: dict[str, Any] = {"max_staleness": staleness, "at_most": BATCH}
    calm = Driver(FakeRunners([chaotic()]), chooser=choose(), **settings)
    expected = contents([calm.step() for _ in range(6)])
    for seed in range(12):
        chance = random.Random(seed)
        runners = FakeRunners([chaotic(chance)] * chance.choice([1, 2, 3, 5]), chance=chance)
        runners.come_back = chance.random() < 0.5
        driver = Driver(runners, chooser=choose(), **settings)
        batches = []
        for _ in range(6):
            batches.append(driver.step())
            if chance.random() < 0.3:
                driver.restore()
            if chance.random() < 0.3:
                runners.die_idle(1)
        assert contents(batches) == expected
        assert driver.stream.cursor == calm.stream.cursor
        if calm.stream.chooser is not None:
            assert driver.stream.chooser.get_state() == calm.stream.chooser.get_state()
            assert driver.stream.chooser.counts == calm.stream.chooser.counts
            assert min(calm.stream.chooser.counts.values()) > 0


def test_what_is_stepped_over_is_replaced_under_the_newest_weights_and_no_bound_is_passed() -> None:
    driver = Driver(FakeRunners([complete] * 2), max_staleness=2, at_most=BATCH)
    ages = []
    for t in range(8):
        batch = driver.step()
        assert len(batch.groups) == BATCH and not any(map(is_equal, batch.groups))
        ages += [t - version for version in batch.versions]
        assert len(driver.stream.ledger) == 2 * BATCH
    assert max(ages) == 2 and min(ages[-BATCH:]) >= 0


def test_so_many_are_stepped_over_and_no_more() -> None:
    driver = Driver(FakeRunners([complete]), max_staleness=1, at_most=0)
    assert sum(map(is_equal, driver.step().groups)) > 0
    driver = Driver(FakeRunners([complete]), max_staleness=1, at_most=1)
    batch = driver.step()
    assert len(batch.set_aside) == 1 and len(batch.groups) == BATCH


def test_a_batch_of_which_everything_is_dropped_is_an_error() -> None:
    def drop_all(job: RolloutJob) -> RolloutResult:
        return RolloutResult(dropped=dict.fromkeys(job.seeds, "no problem at all"))

    driver = Driver(FakeRunners([drop_all]), max_staleness=1)
    with pytest.raises(RuntimeError, match=r"16 groups were dropped.*no problem at all"):
        driver.step()


def test_who_learns_leaves_no_job_unassigned() -> None:
    runners = FakeRunners([complete] * 3, chance=random.Random(0))
    driver = Driver(runners, max_staleness=2, job_size=1)
    driver.take()
    assert not driver.stream.ledger.pending
    jobs = [call.worker_id for call in driver.runners.all() if call.method == "sample"]
    loads = [jobs.count(worker_id) for worker_id in (1, 2, 3)]
    assert sum(loads) >= BATCH and max(loads) - min(loads) <= 1


def test_a_slow_runner_keeps_nothing_but_the_jobs_that_it_is_at() -> None:
    runners = FakeRunners([complete] * 3, chance=random.Random(0))
    runners.slow = {1}
    driver = Driver(runners, max_staleness=1, job_size=1)
    for _ in range(4):
        driver.step()
    driver.stream.drain()
    done = [worker_id for worker_id, _ in runners.jobs]
    assert len(done) == 5 * BATCH == len(set(runners.seeds_asked_for()))
    assert done.count(1) <= 5  # one a batch, which nobody can take from it


@pytest.mark.parametrize("staleness", [0, 1, 2])
@pytest.mark.parametrize("nth", [0, 1, 4, 7])
@pytest.mark.parametrize("choose", [lambda: None, chooser])
def test_an_interrupt_leaves_what_was_open_and_the_next_batch_is_what_it_would_have_been(
    staleness: int, nth: int, choose: Any
) -> None:
    undisturbed = Driver(FakeRunners([complete] * 2), max_staleness=staleness, chooser=choose())
    expected = contents([undisturbed.step() for _ in range(6)])

    interrupts = iter([])

    def sample(job: RolloutJob) -> RolloutResult:
        if next(interrupts, 1) == 0:
            raise KeyboardInterrupt
        return complete(job)

    driver = Driver(FakeRunners([sample] * 2), max_staleness=staleness, chooser=choose())
    batches = [driver.step()]
    cursor, open_seeds = driver.stream.cursor, driver.stream.ledger.seeds
    interrupts = iter(range(nth, -1, -1))
    for _ in range(5):
        try:
            batches.append(driver.step())
        except KeyboardInterrupt:
            assert (driver.stream.cursor, driver.stream.ledger.seeds) == (cursor, open_seeds)
            at = [call.about.job.seeds for call in driver.runners.all() if call.about]
            assert {seed for seeds in at for seed in seeds} <= set(open_seeds)
        cursor, open_seeds = driver.stream.cursor, driver.stream.ledger.seeds
    while len(batches) < 6:
        batches.append(driver.step())
    assert contents(batches) == expected
    if driver.stream.chooser is not None:
        assert driver.stream.chooser.counts == undisturbed.stream.chooser.counts


@pytest.mark.parametrize("staleness", [0, 1, 2])
@pytest.mark.parametrize("choose", [lambda: None, chooser])
@pytest.mark.parametrize("by", ["go_back", "untake", "both"])
def test_a_batch_that_was_taken_in_vain_comes_again_with_all_that_was_open(
    staleness: int, choose: Any, by: str
) -> None:
    settings: dict[str, Any] = {"max_staleness": staleness, "at_most": BATCH}
    undisturbed = Driver(FakeRunners([complete] * 2), chooser=choose(), **settings)
    expected = contents([undisturbed.step() for _ in range(5)])
    driver = Driver(FakeRunners([complete] * 2), chooser=choose(), **settings)
    batches = []
    for _ in range(5):
        driver.stream.untake()  # there is nothing that could be
        stream = driver.stream
        cursor, open_seeds, go_back = stream.cursor, stream.ledger.seeds, stream.position()
        driver.take()
        if by != "go_back":
            stream.untake()
        if by != "untake":
            go_back()
        assert (stream.cursor, stream.ledger.seeds) == (cursor, open_seeds)
        at = [call.about.job.seeds for call in driver.runners.all() if call.about]
        assert {seed for seeds in at for seed in seeds} <= set(open_seeds)
        batches.append(driver.step())
        stream.position()
    assert contents(batches) == expected
    assert driver.stream.ledger.seeds == undisturbed.stream.ledger.seeds
    if driver.stream.chooser is not None:
        assert driver.stream.chooser.get_state() == undisturbed.stream.chooser.get_state()


@pytest.mark.parametrize("staleness", [0, 1, 2])
@pytest.mark.parametrize("choose", [lambda: None, chooser])
def test_what_is_drained_goes_on_elsewhere_with_other_runners(staleness: int, choose: Any) -> None:
    settings: dict[str, Any] = {"max_staleness": staleness, "at_most": BATCH}
    whole = Driver(FakeRunners([complete] * 2), chooser=choose(), **settings)
    expected = contents([whole.step() for _ in range(6)])
    first = Driver(FakeRunners([complete] * 2), chooser=choose(), **settings)
    batches = [first.step() for _ in range(3)]
    first.stream.drain()
    assert not any(call.about for call in first.runners.all())
    outcomes = first.stream.ledger.outcomes()
    assert len(outcomes) == staleness * BATCH

    runners = FakeRunners([complete] * 3)
    other = Driver(runners, version=first.version, chooser=choose(), **settings)
    other.stream.reset(3, first.stream.cursor, outcomes)
    if other.stream.chooser is not None:
        other.stream.chooser.set_state(first.stream.chooser.get_state())
    batches += [other.step() for _ in range(3)]
    assert contents(batches) == expected


def test_weights_are_held_as_long_as_an_open_seed_needs_them_and_no_longer() -> None:
    driver = Driver(FakeRunners([complete]), max_staleness=2, job_size=1)
    for _ in range(5):
        driver.step()
        assert len(driver.fleet._weights) <= 3
    driver.stream.drain()
    driver.fleet.publish(weights(9))
    assert set(driver.fleet._weights) == {9}
