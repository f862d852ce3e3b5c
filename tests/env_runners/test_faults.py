"""Remote runners: interrupts, hung ones, and problems that kill or hold up theirs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from probes import learned_groups, seeds, sfpo_results
from ray.rllib.env.env_runner import EnvRunner

from sfpo_rllib import SFPO
from sfpo_rllib.env_runners import runner_calls

CRUEL = "my_pkg.envs.cruel:mine/Cruel-v0"

MakeConfig = Callable[..., Any]


@pytest.fixture(scope="module")
def misdeeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments look up what to do."""
    return tmp_path_factory.mktemp("misdeeds")


@pytest.fixture(scope="module")
def recreated() -> list[dict[str, Any]]:
    """What callbacks are told of runners that came back."""
    return []


@pytest.fixture(scope="module")
def algo(
    make_config: MakeConfig, ray_cluster: None, misdeeds: Path, recreated: list[dict[str, Any]]
) -> Any:
    """Two runners, four problems a batch."""
    config = make_config(env=CRUEL, env_config={"misdeeds": str(misdeeds)}).env_runners(
        num_env_runners=2, rollout_timeout_s=12, env_timeout_s=2.0
    )
    config.callbacks(on_env_runners_recreated=lambda **kwargs: recreated.append(kwargs))
    algo = config.build_algo()
    yield algo
    algo.stop()


def train(algo: SFPO) -> tuple[list[int], dict[str, Any]]:
    """Trains; returns the problems, counted from the one whose turn it was, and the counts."""
    first = algo._cursor
    with learned_groups(algo) as batches:
        result = algo.train()
    assert sfpo_results(result)["engine_logp_diff"] < 1e-5
    return [seed - first for seed in seeds(batches[-1])], result["env_runners"]


def wait_for_runners(algo: SFPO, count: int) -> None:
    """Restores what is up again, until so many are."""
    deadline = time.monotonic() + 120
    while algo.env_runner_group.num_healthy_remote_workers() < count:
        assert time.monotonic() < deadline
        algo.restore_env_runners(algo.env_runner_group)


@pytest.mark.slow
def test_an_interrupt_while_runners_sample_stops_them_and_the_next_batch_is_right(
    algo: SFPO, misdeeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, slow = algo._cursor, misdeeds / "slow"
    slow.touch()
    wait = ray.wait

    def interrupted(refs: list[ray.ObjectRef], *, timeout: float) -> None:
        wait(refs, timeout=1.5)  # they are at work by now, for another seven seconds
        raise KeyboardInterrupt

    with monkeypatch.context() as patches:
        patches.setattr(runner_calls.ray, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            algo.train()
    start = time.monotonic()
    answers = algo.env_runner_group.foreach_env_runner(lambda runner: runner.worker_index)
    assert time.monotonic() - start < 4 and sorted(answers) == [1, 2]
    slow.unlink()
    assert algo._cursor == first
    problems, rollouts = train(algo)
    assert problems == [0, 1, 2, 3]
    assert (rollouts["num_env_runners_lost"], rollouts["num_groups_reissued"]) == (0, 0)


@pytest.mark.slow
def test_a_runner_that_hangs_in_a_weight_sync_is_noticed_and_replaced(algo: SFPO) -> None:
    wait_for_runners(algo, 2)

    def hang(runner: EnvRunner) -> None:
        if runner.worker_index == 1:
            runner._engine.load_weights = lambda weights: time.sleep(3600)

    algo.env_runner_group.foreach_env_runner(hang)
    start = time.monotonic()
    problems, rollouts = train(algo)
    assert 12 < time.monotonic() - start < 60
    assert problems == [0, 1, 2, 3]
    assert rollouts["num_env_runners_lost"] == 1
    assert algo.env_runner_group.healthy_env_runner_ids() == [2]


@pytest.mark.slow
def test_a_problem_that_kills_its_runners_is_dropped_and_callbacks_are_told_of_those_that_come_back(
    algo: SFPO, misdeeds: Path, recreated: list[dict[str, Any]]
) -> None:
    wait_for_runners(algo, 2)
    recreated.clear()
    (misdeeds / str(algo._cursor + 1)).write_text("exit")  # for one after the other
    problems, rollouts = train(algo)
    assert problems == [0, 2, 3, 4]
    assert (rollouts["num_groups_dropped"], rollouts["num_groups_given_up"]) == (1, 1)
    assert rollouts["num_env_runners_lost"] >= 2
    # In the midst of the iteration: none is left to sample the problem that replaces the dropped.
    assert recreated and not recreated[0]["is_evaluation"]
    assert {i for told in recreated for i in told["env_runner_indices"]} <= {1, 2}
    assert recreated[0]["env_runner_group"] is algo.env_runner_group


@pytest.mark.slow
def test_a_stuck_environment_costs_its_group_and_no_runner(algo: SFPO, misdeeds: Path) -> None:
    (misdeeds / str(algo._cursor + 2)).write_text("hang")
    problems, rollouts = train(algo)
    assert problems == [0, 1, 3, 4]
    assert rollouts["num_envs_timed_out"] == rollouts["num_groups_dropped"] == 1
    assert rollouts["num_env_runners_lost"] == rollouts["num_groups_given_up"] == 0


@pytest.mark.slow
def test_a_runner_whose_engine_raises_costs_no_group_and_no_minute(
    algo: SFPO, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(runner: EnvRunner) -> None:
        def step() -> None:
            raise RuntimeError("CUDA error: the device is on fire")

        runner._engine.step = step

    wait_for_runners(algo, 1)
    broken = algo.env_runner_group.healthy_env_runner_ids()[:1]
    algo.env_runner_group.foreach_env_runner(break_down, remote_worker_ids=broken)
    start = time.monotonic()
    problems, rollouts = train(algo)
    assert time.monotonic() - start < 50  # RLlib would let it sleep a minute
    assert problems == [0, 1, 2, 3]
    assert rollouts["num_env_runners_lost"] == 1 and rollouts["num_groups_reissued"] > 0
    assert "the device is on fire" in caplog.text
