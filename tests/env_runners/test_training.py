"""Env runners end to end: the problems do not depend on them, and lost ones cost nothing."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

import gymnasium as gym
from my_pkg.envs.task import EchoEnv
from probes import ECHO, learned_groups, sfpo_results, train
from ray.tune.registry import register_env

from sfpo_rllib import GRPO, SFPO, SFPOConfig
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.stream import fleet
from sfpo_rllib.token_trace import TokenTrace

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

ITERATIONS = 3


def runners_report(algo: SFPO, sequence: list[int], prompt_len: int) -> list[tuple]:
    """Log-probs and weights version of each runner, local or remote."""
    return algo.env_runner_group.foreach_env_runner(
        lambda runner: (
            runner.engine_logprobs([sequence], [prompt_len])[0],
            runner.weights_version,
        ),
        local_env_runner=algo.env_runner_group.num_remote_env_runners() == 0,
    )


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where environments look up whether to do something else than to step."""
    return tmp_path_factory.mktemp("orders") / "order"


@pytest.fixture(scope="module")
def algo_with(
    make_config: MakeConfig, ray_cluster: None, order: Path
) -> Iterator[Callable[[int], SFPO]]:
    """`algo_with(num_runners)`, one each."""
    algos: dict[int, SFPO] = {}

    def make(num_runners: int) -> SFPO:
        if num_runners not in algos:
            config = make_config(env=ECHO, env_config={"order": str(order)})
            config.env_runners(num_env_runners=num_runners, rollout_timeout_s=10)
            algos[num_runners] = config.build_algo()
        return algos[num_runners]

    yield make
    for algo in algos.values():
        algo.stop()


@pytest.fixture(scope="module")
def first_problems() -> set[int]:
    """Those that an algorithm's first batch began with; they must all be one."""
    return set()


def train_in_order(algo: SFPO, first_problems: set[int], *, lost: int) -> None:
    """Trains: every problem once, whatever becomes of the runners."""
    first, done = algo._cursor, algo.iteration
    first_problems.add(first - 4 * done)
    assert len(first_problems) == 1
    problems, results = train(algo, ITERATIONS)
    assert problems == [list(range(first + 4 * i, first + 4 * i + 4)) for i in range(ITERATIONS)]
    rollouts = [result["env_runners"] for result in results]
    lifetimes = [16 * (done + i) for i in range(1, ITERATIONS + 1)]
    assert [r["num_rollouts_lifetime"] for r in rollouts] == lifetimes
    assert [r["num_env_runners_lost"] for r in rollouts] == [lost, *[0] * (ITERATIONS - 1)]
    assert (rollouts[0]["num_groups_reissued"] > 0) == (lost > 0)
    assert all(sfpo_results(result)["engine_logp_diff"] < 1e-5 for result in results)


def check_current_weights(algo: SFPO, num_runners: int) -> None:
    """All runners sample from the weights of the learner."""
    reports = runners_report(algo, [3, 4, 5, 6, 7, 8], 3)
    assert len(reports) == num_runners
    assert {version for _, version in reports} == {algo.iteration}
    for logprobs, _ in reports:
        np.testing.assert_array_equal(logprobs, reports[0][0])


@pytest.mark.parametrize(
    "num_runners", [0, pytest.param(2, marks=pytest.mark.slow)], ids=lambda n: f"{n} runners"
)
def test_problems_do_not_depend_on_the_number_of_runners(
    algo_with: Callable[[int], SFPO], first_problems: set[int], num_runners: int
) -> None:
    algo = algo_with(num_runners)
    train_in_order(algo, first_problems, lost=0)
    check_current_weights(algo, max(num_runners, 1))
    evaluated = algo.evaluate()["env_runners"]
    assert evaluated["num_episodes"] == 512
    assert evaluated["weights_version"] == algo.iteration


@pytest.mark.slow
@pytest.mark.parametrize("misdeed", ["kill", "hang"])
def test_lost_runner_costs_no_group(
    algo_with: Callable[[int], SFPO],
    first_problems: set[int],
    order: Path,
    monkeypatch: pytest.MonkeyPatch,
    misdeed: str,
) -> None:
    """One of two runners dies, or hangs in its environment."""
    monkeypatch.setattr(fleet, "GRACE_S", 1.0)
    algo = algo_with(2)
    order.write_text(misdeed)
    train_in_order(algo, first_problems, lost=1)

    assert not order.exists()
    assert algo.env_runner_group.num_healthy_remote_workers() > 0
    wait_for_runners(algo, 2)
    check_current_weights(algo, 2)
    done = algo.iteration
    with learned_groups(algo) as batches:
        result = algo.train()
    assert {TokenTrace.of(e).weights_version for group in batches[0] for e in group} == {done}
    assert sfpo_results(result)["engine_logp_diff"] < 1e-5


def wait_for_runners(algo: SFPO, count: int) -> None:
    """Restores what is up again, until all runners are."""
    deadline = time.monotonic() + 120
    while algo.env_runner_group.num_healthy_remote_workers() < count:
        assert time.monotonic() < deadline
        algo.restore_env_runners(algo.env_runner_group)


def test_a_runner_in_which_a_call_raises_ends_at_once(make_config: MakeConfig) -> None:
    """RLlib's own default has it wait a minute before it does."""
    runner = object.__new__(GroupEnvRunner)
    runner.config = make_config()
    start = time.monotonic()
    with pytest.raises(SystemExit):
        runner.apply(lambda runner: runner.no_such_thing)
    assert time.monotonic() - start < 10


def make_echo(config: dict[str, Any]) -> gym.Env:
    return gym.make(ECHO, disable_env_checker=True, turns=config["number_of_turns"])


@pytest.mark.parametrize("kind", ["registered name", "callable", "class"])
def test_environments_that_are_not_gymnasium_ids_train(
    make_config: MakeConfig, running: Running, kind: str
) -> None:
    register_env("echo", make_echo)
    env, env_config = {
        "registered name": ("echo", {"number_of_turns": 2}),
        "callable": (make_echo, {"number_of_turns": 2}),
        "class": (EchoEnv, {"turns": 2}),
    }[kind]
    algo = running(make_config(env=env, env_config=env_config).build_algo())
    result = algo.train()

    assert result["env_runners"]["episode_len_mean"] == 2
    assert sfpo_results(result)["pass_0"]["grad_norm"] > 0
