"""Overlap of sampling and learning, end to end: what is trained does not depend on timing."""

import time
from collections.abc import Callable
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
ITERATIONS = 4

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]
Weights = dict[str, Any]


def train(algo: SFPO, iterations: int) -> tuple[list[list[int]], list[set[int]], list[Any]]:
    """Trains; returns the problems, the versions they were sampled under, and the results."""
    with learned_groups(algo) as batches:
        results = [algo.train() for _ in range(iterations)]
    versions = [{TokenTrace.of(e).weights_version for g in batch for e in g} for batch in batches]
    return [seeds(groups) for groups in batches], versions, results


def by_turns(config: SFPOConfig, staleness: int) -> Weights:
    """The weights after a loop that keeps those of every version, and samples batch t under those
    of version max(0, t - staleness).
    """
    # Without overlap old weights are taken for a fault, in overlap they are not.
    algo = config.training(max_engine_logp_diff=None).build_algo()
    algo.metrics.log_value(
        (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), 0, reduce="lifetime_sum"
    )
    runner = algo.env_runner_group.local_env_runner
    store = ObjectStore(has_remote_runners=True)
    saved = [store.publish(algo.learner_group)]
    for t in range(ITERATIONS):
        weights = saved[max(0, t - staleness)]
        runner.set_state(weights.state)
        first = algo._cursor + GROUPS * t
        job = RolloutJob(
            tuple(range(first, first + GROUPS)), weights.version, (config.seed, t), False, 600.0
        )
        groups = runner.sample(job=job).groups
        algo._learn([groups[seed] for seed in job.seeds])
        saved.append(store.publish(algo.learner_group))
    weights = algo.get_module_weights()
    algo.stop()
    return weights


@pytest.mark.parametrize(
    ("staleness", "num_runners"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)]
)
def test_overlapped_training_equals_a_loop_that_keeps_all_weights(
    make_config: MakeConfig, running: Running, staleness: int, num_runners: int
) -> None:
    def config() -> SFPOConfig:
        return make_config(env=ECHO, env_config={"turns": 2})

    compare_with_turns(config, running, staleness, num_runners)


@pytest.mark.slow
def test_overlapped_training_with_vllm_equals_a_loop_that_keeps_all_weights(
    make_config: MakeConfig, running: Running, vllm_model: Path, vllm_installed: None
) -> None:
    def config() -> SFPOConfig:
        config = make_config(env=ECHO, env_config={"turns": 2})
        config.rl_module(model_config={"model": str(vllm_model)})
        settings = {"kv_cache_memory_bytes": 1 << 26, "max_model_len": 64}
        return config.env_runners(rollout_engine="vllm", engine_kwargs=settings)

    compare_with_turns(config, running, 2, 1)


def compare_with_turns(
    make: Callable[[], SFPOConfig], running: Running, staleness: int, num_runners: int
) -> None:
    """Trains by turns and in overlap, and compares weights, problems, versions and metrics."""

    def config() -> SFPOConfig:
        return make().training(lr=1e-2).env_runners(groups_per_job=GROUPS)

    engine = config().rollout_engine
    expected = by_turns(config(), staleness)
    algo = running(
        config().env_runners(num_env_runners=num_runners, max_staleness=staleness).build_algo()
    )
    first = algo._cursor
    problems, versions, results = train(algo, ITERATIONS)
    assert problems == [
        list(range(first + GROUPS * t, first + GROUPS * (t + 1))) for t in range(ITERATIONS)
    ]
    assert versions == [{max(0, t - staleness)} for t in range(ITERATIONS)]
    assert_equal_weights(algo.get_module_weights(), expected)

    for t, result in enumerate(results):
        age, rollouts = min(t, staleness), result["env_runners"]
        assert rollouts["weights_age"] == {"mean": age, "max": age}
        assert rollouts["weights_version"] == t - age
        assert rollouts["num_rollouts_lifetime"] == 16 * (t + 1)
        assert 0 < result["learners"]["learner_idle_fraction"] < 1
        learned = result["learners"]["default_policy"]["sfpo"]
        assert learned["refused_batches_lifetime"] == 0
        if engine == "transformers":
            assert (learned["engine_logp_diff"] > 1e-4) == (age > 0)


def wait_for_runners(algo: SFPO, count: int) -> None:
    """Restores what is up again, until so many are."""
    deadline = time.monotonic() + 120
    while algo.env_runner_group.num_healthy_remote_workers() < count:
        assert time.monotonic() < deadline
        algo.restore_env_runners(algo.env_runner_group)


def ahead(make_config: MakeConfig, misdeeds: Path, **settings: Any) -> SFPOConfig:
    """Two runners, of which a job is one group; sampling is one update ahead."""
    misdeeds.mkdir(exist_ok=True)
    return (
        make_config(env=CRUEL, env_config={"misdeeds": str(misdeeds)})
        .env_runners(
            **{"num_env_runners": 2, "max_staleness": 1, "groups_per_job": 1, **settings},
            env_runner_cls=MortalRunner,
        )
        .training(lr=1e-2)
    )


@pytest.mark.slow
def test_runners_that_are_killed_at_any_point_change_nothing(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    undisturbed = running(ahead(make_config, tmp_path / "kind").build_algo())
    problems, versions, _ = train(undisturbed, 6)

    misdeeds = tmp_path / "cruel"
    algo = running(ahead(make_config, misdeeds).build_algo())
    seen: list[Any] = []
    lost = 0
    for when in ("while_sampling", "before_sample", "in_restore"):
        for i in (1, 2):
            orders = [misdeeds / f"{when}-{i}"]
            if when == "in_restore":  # it is lost before, too
                orders.append(misdeeds / f"before_sample-{i}")
            for order in orders:
                order.touch()
            result = train(algo, 1)
            seen.append(result[:2])
            deadline = time.monotonic() + 120
            while any(order.exists() for order in orders):
                assert time.monotonic() < deadline
                algo.restore_env_runners(algo.env_runner_group)
                algo._rollouts.drain()
            lost += result[2][0]["env_runners"]["num_env_runners_lost"]
            wait_for_runners(algo, 2)
    lost += algo._rollouts.take_num_lost()
    assert lost >= 6  # of 8: one that dies again as it comes back may be lost once
    assert [batch for p, _ in seen for batch in p] == problems
    assert [batch for _, v in seen for batch in v] == versions
    assert_equal_weights(algo.get_module_weights(), undisturbed.get_module_weights())


@pytest.mark.slow
@pytest.mark.parametrize("staleness", [1, 2])
def test_a_run_that_is_saved_while_jobs_are_out_goes_on_bit_for_bit(
    make_config: MakeConfig, running: Running, tmp_path: Path, staleness: int
) -> None:
    half, misdeeds = 2, tmp_path / "misdeeds"
    config = ahead(make_config, misdeeds, max_staleness=staleness, groups_per_job=None)
    config.evaluation(evaluation_duration=8)
    whole = running(config.copy(copy_frozen=False).build_algo())
    problems, *_ = train(whole, half)
    evaluated = whole.evaluate()["env_runners"]  # in between, under the newest weights
    assert evaluated["weights_version"] == half
    more_problems, versions, more_results = train(whole, half)
    assert versions == [{max(0, t - staleness)} for t in range(half, 2 * half)]

    first_half = running(config.copy(copy_frozen=False).build_algo())
    train(first_half, half - 1)
    (misdeeds / "slow").touch()
    train(first_half, 1)
    assert not first_half._rollouts.stream.ledger.is_whole  # the runners are at it
    (misdeeds / "slow").unlink()
    checkpoint = first_half.save_to_path(tmp_path / "checkpoint")
    assert first_half._cursor == problems[0][0] + GROUPS * (half + staleness)
    # What was sampled ahead is no pickle.
    assert not list(Path(checkpoint).glob("algorithm_state_objects.pkl"))
    same_runners = running(SFPO.from_checkpoint(checkpoint))
    one_runner = config.copy(copy_frozen=False).env_runners(num_env_runners=1)
    other_runners = running(SFPO.from_checkpoint(checkpoint, config=one_runner))
    for algo in (first_half, same_runners, other_runners):
        rest, same_versions, rest_results = train(algo, half)
        assert (rest, same_versions) == (more_problems, versions)
        assert_equal_weights(algo.get_module_weights(), whole.get_module_weights())
        for one, other in zip(rest_results, more_results, strict=True):
            for name in ("num_rollouts_lifetime", "episode_return_mean", "weights_version"):
                assert one["env_runners"][name] == other["env_runners"][name]


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
