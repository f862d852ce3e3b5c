"""The driver's side of sampling, against runners that are lost, late, stale or dead."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sfpo_rllib.env_runners import collect
from sfpo_rllib.env_runners.collect import GRACE_S, MAX_ATTEMPTS, Collection, GroupCollector
from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.runner_calls import Answers

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
        self.come_back = False  # lost runners, at once
        self.raise_instead = False  # of dying
        self.jobs: list[tuple[int, RolloutJob]] = []

    local_env_runner = None

    def num_remote_env_runners(self) -> int:
        return len(self.samples)

    def healthy_env_runner_ids(self) -> list[int]:
        return list(self.healthy)

    def call(
        self, method: str, arguments: dict[int, dict[str, RolloutJob]], timeout_s: float
    ) -> Answers:
        assert method == "sample"
        assert timeout_s == TIMEOUT_S + GRACE_S
        assert set(arguments) <= set(self.healthy)
        answers = Answers()
        for worker_id, keywords in arguments.items():
            job = keywords["job"]
            self.jobs.append((worker_id, job))
            result = self.samples[worker_id](job)
            if result is not None:
                answers.values[worker_id] = result
                continue
            answers.lost[worker_id] = "the tool took it down"
            if self.raise_instead:
                answers.raised[worker_id] = "the tool took it down"
            if not self.come_back:
                self.healthy.remove(worker_id)
        return answers

    def seeds_asked_for(self) -> list[int]:
        return [seed for _, job in self.jobs for seed in job.seeds]


@pytest.fixture(autouse=True)
def fake_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        collect, "call_runners", lambda runners, *args, **kwargs: runners.call(*args, **kwargs)
    )


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


def test_runners_of_which_no_seed_ever_comes_back_are_an_error_with_the_reason():
    runners = FakeRunners([lose])
    runners.come_back = True
    with pytest.raises(
        RuntimeError, match=r"no group was sampled in 8 rounds.*the tool took it down"
    ):
        run(runners, range(200))
    assert len(runners.jobs) == collect.MAX_FRUITLESS_ROUNDS


def test_runners_that_raise_whatever_they_are_asked_for_are_an_error_with_the_cause():
    runners = FakeRunners([lose] * 2)
    runners.come_back = runners.raise_instead = True
    with pytest.raises(RuntimeError, match=r"no group was sampled in 4 rounds.*took it down"):
        run(runners, range(200))


def test_no_healthy_runner_is_an_error():
    restored = []
    with pytest.raises(RuntimeError, match=r"no env runner is healthy.*the tool took it down"):
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
