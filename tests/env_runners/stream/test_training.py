"""Overlap of sampling and learning, end to end: what is trained does not depend on timing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from mortal import MortalRunner
from probes import ECHO, assert_equal_weights, learned_groups, seeds
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from sfpo_rllib import GRPO, SFPO, SFPOConfig
from sfpo_rllib.env_runners.rollout import RolloutJob
from sfpo_rllib.env_runners.weights import ObjectStore
from sfpo_rllib.token_trace import TokenTrace

CRUEL = "my_pkg.envs.cruel:mine/Cruel-v0"
GROUPS = 4  # of a batch
HALF = 2  # iterations to the checkpoint, and from it
ITERATIONS = 2 * HALF
KILLS = ("while_sampling", "before_sample", "in_restore")
MOST_KILLED = 4 * len(KILLS)  # iterations until all have been told to die and did

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]
Weights = dict[str, Any]


def train(algo: SFPO, iterations: int) -> tuple[list[list[int]], list[set[int]], list[Any]]:
    """Trains; returns the problems, the versions they were sampled under, and the results."""
    with learned_groups(algo) as batches:
        results = [algo.train() for _ in range(iterations)]
    versions = [{TokenTrace.of(e).weights_version for g in batch for e in g} for batch in batches]
    return [seeds(groups) for groups in batches], versions, results


def by_turns(config: SFPOConfig, staleness: int, iterations: int) -> list[Weights]:
    """The weights before and after each update of a loop that keeps those of every version, and
    samples batch t under those of version max(0, t - staleness).
    """
    # Without overlap old weights are taken for a fault, in overlap they are not.
    config = config.copy(copy_frozen=False).training(max_engine_logp_diff=None)
    algo = config.env_runners(num_env_runners=0, max_staleness=0).build_algo()
    algo.metrics.log_value(
        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), 0, reduce="lifetime_sum"
    )
    runner = algo.env_runner_group.local_env_runner
    store = ObjectStore(has_remote_runners=True)
    saved, weights = [store.publish(algo.learner_group)], [algo.get_module_weights()]
    for t in range(iterations):
        sampled_from = saved[max(0, t - staleness)]
        runner.set_state(sampled_from.state)
        groups: list[Any] = []
        first = algo._cursor + GROUPS * t
        for job in range(first, first + GROUPS, config.groups_per_job):
            problems = tuple(range(job, job + config.groups_per_job))
            sampled = runner.sample(
                job=RolloutJob(problems, sampled_from.version, (config.seed, t), False, 600.0)
            )
            groups += [sampled.groups[problem] for problem in problems]
        algo._learn(groups)
        saved.append(store.publish(algo.learner_group))
        weights.append(algo.get_module_weights())
    algo.stop()
    return weights


@dataclass
class Overlapped:
    """A run in overlap, saved in the midst of it, and the weights of the same by turns."""

    config: SFPOConfig
    staleness: int
    misdeeds: Path
    expected: list[Weights]  # by turns, of each version
    algo: SFPO
    first: int  # problem
    problems: list[list[int]]
    versions: list[set[int]]
    results: list[Any]
    weights: Weights
    checkpoint: Path
    jobs_were_out: bool  # when it was saved
    evaluated: dict[str, Any]  # then

    def problems_of(self, iterations: range) -> list[list[int]]:
        """What a run without overlap would learn from."""
        starts = [self.first + GROUPS * t for t in iterations]
        return [list(range(start, start + GROUPS)) for start in starts]

    def versions_of(self, iterations: range) -> list[set[int]]:
        """What they are sampled under."""
        return [{max(0, t - self.staleness)} for t in iterations]


@pytest.fixture(scope="module")
def overlapped(
    make_config: MakeConfig,
    ray_cluster: None,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Overlapped]:
    """One update ahead with two runners, of which a job is one group; or two with one."""
    staleness = request.param
    misdeeds = tmp_path_factory.mktemp("misdeeds")
    config = make_config(env=CRUEL, env_config={"misdeeds": str(misdeeds)})
    config.env_runners(
        num_env_runners=3 - staleness,
        max_staleness=staleness,
        groups_per_job=1 if staleness == 1 else GROUPS,
        env_runner_cls=MortalRunner,
    )
    config.training(lr=1e-2).evaluation(evaluation_duration=8)
    expected = by_turns(config, staleness, ITERATIONS + MOST_KILLED)
    algo = config.copy(copy_frozen=False).build_algo()
    first = algo._cursor
    before = train(algo, HALF - 1)
    slow = misdeeds / "slow"
    slow.touch()
    last_before = train(algo, 1)
    jobs_were_out = not algo._rollouts.stream.ledger.is_whole
    slow.unlink()
    checkpoint = algo.save_to_path(tmp_path_factory.mktemp("saved") / "checkpoint")
    evaluated = algo.evaluate()["env_runners"]
    after = train(algo, HALF)
    problems, versions, results = (
        [*one, *two, *three] for one, two, three in zip(before, last_before, after, strict=True)
    )
    yield Overlapped(
        config=config,
        staleness=staleness,
        misdeeds=misdeeds,
        expected=expected,
        algo=algo,
        first=first,
        problems=problems,
        versions=versions,
        results=results,
        weights=algo.get_module_weights(),
        checkpoint=Path(checkpoint),
        jobs_were_out=jobs_were_out,
        evaluated=evaluated,
    )
    algo.stop()


stalenesses = pytest.mark.parametrize("overlapped", [1, 2], indirect=True)


@pytest.mark.slow
@stalenesses
def test_overlapped_training_equals_a_loop_that_keeps_all_weights(overlapped: Overlapped) -> None:
    iterations = range(ITERATIONS)
    assert overlapped.problems == overlapped.problems_of(iterations)
    assert overlapped.versions == overlapped.versions_of(iterations)
    assert_equal_weights(overlapped.weights, overlapped.expected[ITERATIONS])
    check_results(overlapped.results, overlapped.staleness)
    for result in overlapped.results:
        learned = result["learners"]["default_policy"]["sfpo"]
        is_old = result["env_runners"]["weights_age"]["max"] > 0
        assert (learned["engine_logp_diff"] > 1e-4) == is_old
    # In between, under the newest weights.
    assert overlapped.evaluated["weights_version"] == HALF


@pytest.mark.slow
@stalenesses
def test_a_run_that_is_saved_while_jobs_are_out_goes_on_bit_for_bit(
    overlapped: Overlapped, running: Running
) -> None:
    """The run itself, see above, and in other runners: as many, or one for two."""
    assert overlapped.jobs_were_out
    # What was sampled ahead is no pickle.
    assert not list(overlapped.checkpoint.glob("algorithm_state_objects.pkl"))
    settings: dict[str, Any] = {}
    if overlapped.config.num_env_runners > 1:
        settings["config"] = overlapped.config.copy(copy_frozen=False).env_runners(
            num_env_runners=1
        )
    algo = running(SFPO.from_checkpoint(overlapped.checkpoint, **settings))
    assert algo._cursor == overlapped.first + GROUPS * (HALF + overlapped.staleness)
    problems, versions, results = train(algo, HALF)
    assert problems == overlapped.problems[HALF:]
    assert versions == overlapped.versions[HALF:]
    assert_equal_weights(algo.get_module_weights(), overlapped.weights)
    for one, other in zip(results, overlapped.results[HALF:], strict=True):
        for name in ("num_rollouts_lifetime", "episode_return_mean", "weights_version"):
            assert one["env_runners"][name] == other["env_runners"][name]


@pytest.mark.slow
@pytest.mark.parametrize("overlapped", [1], indirect=True)
def test_runners_that_are_killed_at_any_point_change_nothing(overlapped: Overlapped) -> None:
    algo, misdeeds = overlapped.algo, overlapped.misdeeds
    begun = algo.iteration
    problems, versions, lost = [], [], []
    for runner, when in zip((1, 2, 1), KILLS, strict=True):
        orders = [misdeeds / f"{when}-{runner}"]
        if when == "in_restore":  # it is lost before, too
            orders.append(misdeeds / f"before_sample-{runner}")
        for order in orders:
            order.touch()
        while any(order.exists() for order in orders):  # it may have had no job
            assert algo.iteration < begun + MOST_KILLED
            seen = train(algo, 1)
            problems += seen[0]
            versions += seen[1]
            lost.append(seen[2][0]["env_runners"]["num_env_runners_lost"])
            deadline = time.monotonic() + 10
            while any(order.exists() for order in orders) and time.monotonic() < deadline:
                algo.restore_env_runners(algo.env_runner_group)
                algo._rollouts.drain()
        wait_for_runners(algo, 2)
    lost.append(algo._rollouts.take_num_lost())
    assert sum(lost) >= len(KILLS)  # one that dies again as it comes back may be lost once
    iterations = range(begun, algo.iteration)
    assert problems == overlapped.problems_of(iterations)
    assert versions == overlapped.versions_of(iterations)
    assert_equal_weights(algo.get_module_weights(), overlapped.expected[algo.iteration])


def wait_for_runners(algo: SFPO, count: int) -> None:
    """Restores what is up again, until so many are."""
    deadline = time.monotonic() + 120
    while algo.env_runner_group.num_healthy_remote_workers() < count:
        assert time.monotonic() < deadline
        algo.restore_env_runners(algo.env_runner_group)


def check_results(results: list[dict[str, Any]], staleness: int) -> None:
    """What a run in overlap says of itself."""
    for t, result in enumerate(results):
        age, rollouts = min(t, staleness), result["env_runners"]
        assert rollouts["weights_age"] == {"mean": age, "max": age}
        assert rollouts["weights_version"] == t - age
        assert rollouts["num_rollouts_lifetime"] == 16 * (t + 1)
        assert 0 < result["learners"]["learner_idle_fraction"] < 1
        assert result["learners"]["default_policy"]["sfpo"]["refused_batches_lifetime"] == 0


@pytest.mark.slow
def test_overlapped_training_with_vllm_equals_a_loop_that_keeps_all_weights(
    make_config: MakeConfig, running: Running, vllm_model: Path, vllm_installed: None
) -> None:
    config = make_config(env=ECHO, env_config={"turns": 2}).training(lr=1e-2)
    config.rl_module(model_config={"model": str(vllm_model)})
    config.env_runners(
        rollout_engine="vllm",
        engine_kwargs={"kv_cache_memory_bytes": 1 << 26, "max_model_len": 64},
        groups_per_job=GROUPS,
    )
    expected = by_turns(config, 2, ITERATIONS)
    algo = running(config.env_runners(num_env_runners=1, max_staleness=2).build_algo())
    first = algo._cursor
    problems, versions, results = train(algo, ITERATIONS)
    assert [batch[0] for batch in problems] == [first + GROUPS * t for t in range(ITERATIONS)]
    assert versions == [{max(0, t - 2)} for t in range(ITERATIONS)]
    assert_equal_weights(algo.get_module_weights(), expected[ITERATIONS])
    check_results(results, 2)


def test_a_checkpoint_of_an_earlier_release_has_nothing_open(
    make_config: MakeConfig, running: Running
) -> None:
    algo = running(make_config(env=ECHO).build_algo())
    algo.train()
    state = algo.get_state()
    assert state["rollout_driver"]["open"] == []
    expected = train(algo, 1)[0]
    for key in ("open", "job_size"):
        del state["rollout_driver"][key]
    algo.set_state(state)
    assert train(algo, 1)[0] == expected


def test_a_runner_answers_one_call_at_a_time_in_the_order_of_sending(
    make_config: MakeConfig, ray_cluster: None
) -> None:
    """The order of `set_state` and `sample` is all that keeps versions and jobs together."""
    group = EnvRunnerGroup(config=make_config(), local_env_runner=False, _setup=False)
    assert group._remote_args  # what RLlib makes the actors with
    parallel = {"max_concurrency", "concurrency_groups", "allow_out_of_order_execution"}
    retries = {"max_task_retries", "retry_exceptions"}
    assert not (parallel | retries) & set(group._remote_args)
