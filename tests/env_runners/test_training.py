"""Env runners end to end: the problems do not depend on them, and lost ones cost nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

import gymnasium as gym
from my_pkg.envs.task import EchoEnv
from probes import ECHO, learned_groups, seeds, sfpo_results, train
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
def expected_problems() -> dict[str, Any]:
    """What the first test that trains has seen; all others must see the same."""
    return {}


def check_problems(problems: list[list[int]], expected: dict[str, Any]) -> None:
    first = problems[0][0]
    consecutive = [list(range(first + 4 * i, first + 4 * i + 4)) for i in range(ITERATIONS)]
    assert problems == consecutive
    assert expected.setdefault("first", first) == first


def check_rollouts(results: list[dict[str, Any]], *, lost: int) -> None:
    rollouts = [result["env_runners"] for result in results]
    assert [r["num_rollouts_lifetime"] for r in rollouts] == [16, 32, 48]
    assert [r["num_env_runners_lost"] for r in rollouts] == [lost, 0, 0]
    assert (rollouts[0]["num_groups_reissued"] > 0) == (lost > 0)
    assert all(sfpo_results(result)["engine_logp_diff"] < 1e-5 for result in results)


def check_current_weights(algo: SFPO, num_runners: int) -> None:
    """All runners sample from the weights of the learner."""
    reports = runners_report(algo, [3, 4, 5, 6, 7, 8], 3)
    assert len(reports) == num_runners
    assert {version for _, version in reports} == {ITERATIONS}
    for logprobs, _ in reports:
        np.testing.assert_array_equal(logprobs, reports[0][0])


@pytest.mark.parametrize(
    "num_runners", [0, pytest.param(2, marks=pytest.mark.slow)], ids=lambda n: f"{n} runners"
)
def test_problems_do_not_depend_on_the_number_of_runners(
    make_config: MakeConfig,
    running: Running,
    expected_problems: dict[str, Any],
    num_runners: int,
) -> None:
    config = make_config(env=ECHO).env_runners(num_env_runners=num_runners)
    algo = running(config.build_algo())
    problems, results = train(algo, ITERATIONS)

    check_problems(problems, expected_problems)
    check_rollouts(results, lost=0)
    check_current_weights(algo, max(num_runners, 1))
    evaluated = algo.evaluate()["env_runners"]
    assert evaluated["num_episodes"] == 512
    assert evaluated["weights_version"] == ITERATIONS


@pytest.mark.slow
@pytest.mark.parametrize("misdeed", ["kill", "hang"])
def test_lost_runner_costs_no_group(
    make_config: MakeConfig,
    running: Running,
    expected_problems: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    misdeed: str,
) -> None:
    """One of two runners dies, or hangs in its environment, on the first step of all."""
    monkeypatch.setattr(fleet, "GRACE_S", 1.0)
    flag = tmp_path / "misbehaved"
    config = make_config(env=ECHO, env_config={"once": misdeed, "flag": str(flag)}).env_runners(
        num_env_runners=2, rollout_timeout_s=10 if misdeed == "hang" else 120
    )
    algo = running(config.build_algo())
    problems, results = train(algo, ITERATIONS)

    assert flag.exists()
    check_problems(problems, expected_problems)
    check_rollouts(results, lost=1)
    assert algo.env_runner_group.num_healthy_remote_workers() > 0
    wait_for_runners(algo, 2)
    check_current_weights(algo, 2)
    with learned_groups(algo) as batches:
        result = algo.train()
    assert seeds(batches[0]) == [problems[-1][-1] + i for i in (1, 2, 3, 4)]
    assert {TokenTrace.of(e).weights_version for group in batches[0] for e in group} == {ITERATIONS}
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
