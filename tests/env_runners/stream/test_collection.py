"""The driver's side of sampling, against runners that are lost, late, stale or dead."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("ray")

from fake_runners import FakeRunners, Sample, complete, weights

from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.runner_calls import LocalCalls
from sfpo_rllib.env_runners.stream import Collection, Fleet, collect, fleet, ledger
from sfpo_rllib.env_runners.stream.ledger import MAX_ATTEMPTS

TIMEOUT_S = 5.0


@pytest.fixture(autouse=True)
def fake_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "calls_on", lambda runners: runners)


def run(
    runners: Any,
    seeds: Sequence[int],
    *,
    restore: Callable[[Fleet], Any] = lambda fleet: None,
    meanwhile: Callable[[], Any] | None = None,
    evaluation: bool = False,
    **settings: Any,
) -> Collection:
    def bring_back() -> None:
        restore(fleet)

    fleet = Fleet(
        runners,
        timeout_s=TIMEOUT_S,
        restore=bring_back,
        **{"restore_timeout_s": 0.2, **settings},
    )
    fleet.publish(weights(4))
    if meanwhile is not None:
        fleet.wait_for_weights()
        meanwhile()
    return collect(
        fleet,
        seeds,
        weights_version=4,
        stream=(0, "x"),
        evaluation=evaluation,
        timeout_s=TIMEOUT_S,
        num_runners=max(len(getattr(runners, "samples", ())), 1),
    )


def seeds_of(collection: Collection) -> list[int]:
    return [group[0][1] for group in collection.groups]


def once(first: Sample, then: Sample = complete) -> Sample:
    """A runner that behaves differently the first time."""
    behaviours = iter([first])
    return lambda job: next(behaviours, then)(job)


def lose(job: RolloutJob) -> None:
    return None


SEEDS = [12, 3, 7, 40, 5]


@pytest.mark.parametrize("num_runners", [1, 2, 3, 9])
def test_groups_come_in_the_order_of_their_seeds_each_asked_for_once(num_runners):
    runners = FakeRunners([complete] * num_runners)
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == SEEDS
    assert sorted(runners.seeds_asked_for()) == sorted(SEEDS)
    assert {worker_id for worker_id, _ in runners.jobs} == set(range(1, 1 + min(num_runners, 5)))
    sizes = [len(job.seeds) for _, job in runners.jobs]
    assert sizes == [5] if num_runners == 1 else max(sizes) <= 2
    assert (collection.num_runners_lost, collection.num_groups_reissued) == (0, 0)
    assert sum(count for _, count in collection.runner_metrics) == 5


@pytest.mark.parametrize("evaluation", [False, True])
def test_the_job_says_what_to_sample(evaluation):
    runners = FakeRunners([complete])
    run(runners, SEEDS, evaluation=evaluation)
    ((_, job),) = runners.jobs
    assert job == RolloutJob(tuple(SEEDS), 4, (0, "x"), evaluation, TIMEOUT_S)


def test_without_remote_runners_the_local_one_samples():
    class Local:
        def set_state(self, state: int) -> None:
            self.version = state

        def sample(self, *, job: RolloutJob) -> RolloutResult:
            assert job.weights_version == self.version
            return complete(job)

    assert seeds_of(run(LocalCalls(Local()), SEEDS)) == SEEDS


def test_only_healthy_runners_are_asked():
    runners = FakeRunners([lose, complete, lose], healthy=[2])
    assert seeds_of(run(runners, SEEDS)) == SEEDS
    assert {worker_id for worker_id, _ in runners.jobs} == {2}


def test_the_seeds_of_a_lost_runner_are_issued_again_and_no_others():
    runners = FakeRunners([complete, lose])
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == SEEDS
    (lost,) = (job.seeds for worker_id, job in runners.jobs if worker_id == 2)
    assert sorted(runners.seeds_asked_for()) == sorted([*SEEDS, *lost])
    assert collection.num_runners_lost == 1
    assert collection.num_groups_reissued == len(lost) > 0


def test_seeds_not_finished_in_time_are_issued_again():
    def late(job: RolloutJob) -> RolloutResult:
        done, *rest = job.seeds
        return RolloutResult(groups={done: [("group", done, job.stream)]}, unfinished=rest)

    runners = FakeRunners([once(late), once(late)])
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == SEEDS
    assert (collection.num_runners_lost, collection.num_groups_reissued) == (0, 2)
    assert len(runners.seeds_asked_for()) == 5 + 2


def test_dropped_seeds_are_reported_and_not_issued_again():
    def drop_odd(job: RolloutJob) -> RolloutResult:
        result = complete(job)
        result.dropped = {seed: "why" for seed in job.seeds if seed % 2}
        result.groups = {s: g for s, g in result.groups.items() if s not in result.dropped}
        return result

    runners = FakeRunners([drop_odd, drop_odd])
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == [12, 40]
    assert collection.dropped == {3: "why", 7: "why", 5: "why"}
    assert sorted(runners.seeds_asked_for()) == sorted(SEEDS)


def test_a_runner_that_died_idle_is_sent_the_weights_again_and_loses_no_seed():
    runners = FakeRunners([complete])
    collection = run(runners, SEEDS, meanwhile=lambda: runners.die_idle(1))
    assert seeds_of(collection) == SEEDS
    assert [method for _, method, _ in runners.sent] == ["set_state", "sample"] * 2
    assert (collection.num_runners_lost, collection.num_groups_reissued) == (0, 0)


def test_weights_that_a_runner_has_are_not_sent_again():
    runners = FakeRunners([complete, lose])
    run(runners, SEEDS)
    assert [w for w, method, _ in runners.sent if method == "set_state"] == [1, 2]


def without(*unwilling: int) -> Sample:
    """A runner that does not finish some seeds, whenever it is asked for them."""

    def sample(job: RolloutJob) -> RolloutResult:
        result = complete(job)
        result.groups = {s: g for s, g in result.groups.items() if s not in unwilling}
        result.unfinished = [seed for seed in job.seeds if seed in unwilling]
        return result

    return sample


def killed_by(*deadly: int) -> Sample:
    """A runner that dies of some seeds."""
    return lambda job: None if set(deadly) & set(job.seeds) else complete(job)


def test_a_seed_given_up_every_time_is_dropped_and_no_other(caplog):
    runners = FakeRunners([without(7), without(7)])
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == [12, 3, 40, 5]
    assert set(collection.dropped) == {7} and collection.given_up == [7]
    assert "rollout_timeout_s=5.0" in collection.dropped[7]
    assert "seed 7" in caplog.text
    assert runners.seeds_asked_for().count(7) == MAX_ATTEMPTS
    assert runners.seeds_asked_for().count(12) == 1


@pytest.mark.parametrize("num_runners", [1, 2, 3])
@pytest.mark.parametrize("deadly", SEEDS)
def test_a_seed_that_kills_its_runner_is_found_and_the_others_are_not_lost(num_runners, deadly):
    runners = FakeRunners([killed_by(deadly)] * num_runners)
    runners.come_back = True
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == [seed for seed in SEEDS if seed != deadly]
    assert set(collection.dropped) == {deadly}
    assert "took it down" in collection.dropped[deadly]
    assert collection.num_runners_lost == MAX_ATTEMPTS
    last = [job for _, job in runners.jobs if deadly in job.seeds][-1]
    assert last.seeds == (deadly,)


@pytest.mark.parametrize("num_runners", [1, 2, 5])
def test_two_that_kill_their_runner_are_found_in_a_large_batch_with_few_losses(num_runners):
    runners = FakeRunners([killed_by(17, 300)] * num_runners)
    runners.come_back = True
    collection = run(runners, range(400))
    assert set(collection.dropped) == {17, 300}
    assert len(collection.groups) == 398
    assert collection.num_runners_lost <= 10


def test_a_slow_runner_that_finishes_some_groups_a_round_loses_none():
    def slow(job: RolloutJob) -> RolloutResult:
        result = complete(job)
        result.groups = {seed: result.groups[seed] for seed in job.seeds[:2]}
        result.unfinished = list(job.seeds[2:])
        return result

    collection = run(FakeRunners([slow]), range(20))
    assert seeds_of(collection) == list(range(20))
    assert not collection.dropped


def test_stale_weights_are_no_fault_of_the_seeds():
    stale = RolloutResult(stale_version=3)
    versions = iter([stale] * 4)
    runners = FakeRunners([lambda job: next(versions, None) or complete(job)])
    assert seeds_of(run(runners, [7])) == [7]


def test_weights_that_all_runners_refuse_are_an_error_with_the_cause():
    runners = FakeRunners([complete] * 2)
    runners.come_back, runners.refuses = True, {1, 2}
    with pytest.raises(RuntimeError, match=r"no group was sampled in 4 rounds.*it refuses"):
        run(runners, SEEDS)


def test_runners_of_which_no_seed_ever_comes_back_are_an_error_with_the_reason():
    runners = FakeRunners([lose])
    runners.come_back = True
    with pytest.raises(
        RuntimeError, match=r"no group was sampled in 8 rounds.*the tool took it down"
    ):
        run(runners, range(200))
    assert len(runners.jobs) == ledger.MAX_FRUITLESS_ROUNDS


def test_runners_that_raise_whatever_they_are_asked_for_are_an_error_with_the_cause():
    runners = FakeRunners([lose] * 2)
    runners.come_back = runners.raise_instead = True
    with pytest.raises(RuntimeError, match=r"no group was sampled in 4 rounds.*took it down"):
        run(runners, range(200))


def test_no_healthy_runner_is_an_error():
    restored = []
    with pytest.raises(RuntimeError, match=r"no env runner is healthy.*the tool took it down"):
        run(FakeRunners([lose, lose]), SEEDS, restore=lambda fleet: restored.append(1))
    assert restored  # it was tried


def test_without_restarts_dead_runners_are_not_waited_for():
    with pytest.raises(RuntimeError, match="restart_failed_env_runners=False"):
        run(FakeRunners([lose, lose]), SEEDS, restore_timeout_s=3600.0, restarts=False)


def test_when_no_runner_is_healthy_they_are_brought_back():
    def bring_back(fleet: Fleet) -> None:
        runners.revive(1, 2)
        fleet.welcome([1, 2])

    runners = FakeRunners([once(lose), once(lose)])
    collection = run(runners, SEEDS, restore=bring_back)
    assert seeds_of(collection) == SEEDS
    assert collection.num_runners_lost == 2
