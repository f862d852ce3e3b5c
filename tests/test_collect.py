"""The driver's side of sampling, against runners that are lost, late, stale or dead."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sfpo_rllib.env_runners import collect
from sfpo_rllib.env_runners.collect import GRACE_S, MAX_ATTEMPTS, Collection, GroupCollector
from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult

TIMEOUT_S = 5.0
Sample = Callable[[RolloutJob], RolloutResult | None]


def complete(job: RolloutJob) -> RolloutResult:
    """Samples every group, in an order of its own; a group says where its seed went."""
    groups = {seed: [("group", seed, job.stream)] for seed in reversed(job.seeds)}
    return RolloutResult(groups=groups, metrics=("metrics", len(groups)))


class FakeRunners:
    """Stands for an EnvRunnerGroup: a function a runner, which returns None if it is lost."""

    def __init__(self, samples: Sequence[Sample], *, healthy: Sequence[int] | None = None) -> None:
        self.samples = dict(enumerate(samples, start=1))
        self.healthy = list(self.samples if healthy is None else healthy)
        self.dies = True  # else a lost runner stays marked healthy, as a stuck one does
        self.jobs: list[tuple[int, RolloutJob]] = []

    local_env_runner = None

    def num_remote_env_runners(self) -> int:
        return len(self.samples)

    def healthy_env_runner_ids(self) -> list[int]:
        return list(self.healthy)

    def foreach_env_runner(
        self,
        func: str,
        *,
        kwargs: list[dict[str, RolloutJob]],
        remote_worker_ids: list[int],
        local_env_runner: bool,
        timeout_seconds: float,
    ) -> list[RolloutResult]:
        assert func == "sample" and not local_env_runner
        assert timeout_seconds == TIMEOUT_S + GRACE_S
        assert set(remote_worker_ids) <= set(self.healthy)
        results = []
        for worker_id, arguments in zip(remote_worker_ids, kwargs, strict=True):
            job = arguments["job"]
            self.jobs.append((worker_id, job))
            result = self.samples[worker_id](job)
            if result is not None:
                results.append(result)
            elif self.dies:
                self.healthy.remove(worker_id)
        return results

    def seeds_asked_for(self) -> list[int]:
        return [seed for _, job in self.jobs for seed in job.seeds]


def run(
    runners: Any,
    seeds: Sequence[int],
    *,
    restore: Callable[[], Any] = lambda: None,
    sync_weights: Callable[[], Any] = lambda: None,
    evaluation: bool = False,
    **settings: Any,
) -> Collection:
    collector = GroupCollector(
        runners,
        timeout_s=TIMEOUT_S,
        restore=restore,
        sync_weights=sync_weights,
        **{"restore_timeout_s": 0.2, **settings},
    )
    return collector.collect(seeds, weights_version=4, stream=(0, "x"), evaluation=evaluation)


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
    shares = [len(job.seeds) for _, job in runners.jobs]
    assert len(shares) == min(num_runners, 5) and max(shares) - min(shares) <= 1
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
        def sample(self, *, job: RolloutJob) -> RolloutResult:
            return complete(job)

    runners = FakeRunners([])
    runners.local_env_runner = Local()
    assert seeds_of(run(runners, SEEDS)) == SEEDS


def test_only_healthy_runners_are_asked():
    runners = FakeRunners([lose, complete, lose], healthy=[2])
    assert seeds_of(run(runners, SEEDS)) == SEEDS
    assert {worker_id for worker_id, _ in runners.jobs} == {2}


def test_the_seeds_of_a_lost_runner_are_issued_again_and_no_others():
    runners = FakeRunners([complete, lose])
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == SEEDS
    lost = runners.jobs[1][1].seeds
    assert sorted(runners.seeds_asked_for()) == sorted([*SEEDS, *lost])
    assert collection.num_runners_lost == 1
    assert collection.num_groups_reissued == len(lost) == 2


def test_seeds_not_finished_in_time_are_issued_again():
    def late(job: RolloutJob) -> RolloutResult:
        done, *rest = job.seeds
        return RolloutResult(groups={done: [("group", done, job.stream)]}, unfinished=rest)

    runners = FakeRunners([once(late), once(late)])
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == SEEDS
    assert (collection.num_runners_lost, collection.num_groups_reissued) == (0, 3)
    assert len(runners.seeds_asked_for()) == 5 + 3


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


def test_stale_weights_are_sent_again_before_the_next_attempt():
    loaded = {1: 4, 2: 3}  # runner to version

    def runner(worker_id: int) -> Sample:
        def sample(job: RolloutJob) -> RolloutResult:
            if loaded[worker_id] != job.weights_version:
                return RolloutResult(unfinished=list(job.seeds), stale_version=loaded[worker_id])
            return complete(job)

        return sample

    runners = FakeRunners([runner(1), runner(2)])
    synced = []

    def sync_weights() -> None:
        synced.append(len(runners.jobs))
        loaded[2] = 4

    collection = run(runners, SEEDS, sync_weights=sync_weights)
    assert seeds_of(collection) == SEEDS
    assert synced == [2]  # once, after the first round


def test_weights_that_are_not_stale_are_not_sent_again():
    synced = []
    run(FakeRunners([complete, lose]), SEEDS, sync_weights=lambda: synced.append(1))
    assert synced == []


def test_a_runner_that_does_not_answer_is_replaced_and_one_that_died_is_not(monkeypatch):
    killed: list[int] = []
    monkeypatch.setattr(collect, "kill_env_runner", lambda group, i: killed.append(i))
    runners = FakeRunners([complete, once(lose), complete])
    runners.dies = False
    collection = run(runners, SEEDS)
    assert seeds_of(collection) == SEEDS
    assert killed == [2]
    assert collection.num_runners_lost == 1

    killed.clear()
    run(FakeRunners([complete, once(lose), complete]), SEEDS)
    assert killed == []


def test_a_seed_given_up_every_time_ends_with_an_error_that_names_it(monkeypatch):
    def never_seven(job: RolloutJob) -> RolloutResult:
        result = complete(job)
        result.groups.pop(7, None)
        result.unfinished = [seed for seed in job.seeds if seed == 7]
        return result

    runners = FakeRunners([never_seven, never_seven])
    with pytest.raises(RuntimeError, match=rf"seeds \[7\].* in {MAX_ATTEMPTS} attempts.*=5\.0"):
        run(runners, SEEDS)
    assert runners.seeds_asked_for().count(7) == MAX_ATTEMPTS
    assert runners.seeds_asked_for().count(12) == 1


def test_no_healthy_runner_is_an_error():
    restored = []
    with pytest.raises(RuntimeError, match="no env runner is healthy"):
        run(FakeRunners([lose, lose]), SEEDS, restore=lambda: restored.append(1))
    assert restored  # it was tried


def test_without_restarts_dead_runners_are_not_waited_for():
    with pytest.raises(RuntimeError, match="restart_failed_env_runners=False"):
        run(FakeRunners([lose, lose]), SEEDS, restore_timeout_s=3600.0, restarts=False)


def test_when_no_runner_is_healthy_they_are_brought_back():
    runners = FakeRunners([once(lose), once(lose)])
    collection = run(runners, SEEDS, restore=lambda: runners.healthy.extend([1, 2]))
    assert seeds_of(collection) == SEEDS
    assert collection.num_runners_lost == 2
