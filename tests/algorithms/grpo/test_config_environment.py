"""Environments that misbehave are found before anything starts, or name themselves in runners."""

import itertools
import os
import random
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from my_pkg.envs.cruel import CruelEnv
from ray.rllib.env import INPUT_ENV_SPACES
from refusals import problems_of

from sfpo_rllib import SFPOConfig
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.env_values import EnvFault


class Shows(gym.Env):
    """Shows what a function of the seed returns; `deed` is done in its constructor or close."""

    def __init__(
        self,
        shown: Callable[[int | None], Any] = str,
        make: Callable[[], Any] = int,
        close: Callable[[], Any] = int,
    ) -> None:
        make()
        self._shown, self._close = shown, close

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        return self._shown(seed), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        return "", 0.0, True, False, {}

    def close(self) -> None:
        self._close()


def problem_of(config: SFPOConfig, **env: Any) -> str:
    (problem,) = problems_of(config.environment(lambda _: Shows(**env), env_config={}))
    assert problem.startswith("env=<function ")
    return problem


def leave() -> None:
    raise SystemExit("no licence")


def wait() -> str:
    time.sleep(30)
    return "1"


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_a_constructor_that_exits_is_a_problem_and_no_exit(good, timeout_s):
    good.env_runners(env_timeout_s=timeout_s)
    assert "could not be made: SystemExit: no licence" in problem_of(good, make=leave)


def test_a_reset_that_exits_is_a_problem_and_no_exit(good):
    problem = problem_of(good, shown=lambda seed: leave())
    assert "reset(seed=0) raised SystemExit: no licence" in problem


def test_a_close_that_raises_hides_no_problem(good):
    assert "showed 7" in problem_of(good, shown=lambda seed: 7, close=leave)
    good.environment(lambda _: Shows(close=leave), env_config={}).validate()


@pytest.mark.parametrize("where", ["make", "shown"])
def test_an_environment_that_hangs_is_a_problem_when_its_time_is_up(good, where):
    good.env_runners(env_timeout_s=0.3, rollout_timeout_s=0.6)
    start = time.monotonic()
    problem = problem_of(good, **{where: lambda *seed: wait()})
    assert time.monotonic() - start < 20
    expected = {"make": "was not over at the deadline", "shown": "longer than env_timeout_s=0.3"}
    assert expected[where] in problem


count = itertools.count()


@pytest.mark.parametrize(
    "shown",
    [lambda seed: str(next(count)), lambda seed: f"{random.random()}"],
    ids=["the next problem", "a random one"],
)
def test_an_environment_that_ignores_its_seed_is_a_problem_that_names_the_checker(good, shown):
    problem = problem_of(good, shown=shown)
    assert "the seed alone must decide the problem" in problem
    assert "python -m sfpo_envs check" in problem


def test_what_only_runners_cannot_make_is_one_error_with_the_cause(good):
    good.environment(CruelEnv).env_config = {"only_in_process": -1}
    remote = GroupEnvRunner(config=good, worker_index=1)
    spaces = remote.get_spaces()
    with pytest.raises(RuntimeError, match=r"env=.*CruelEnv.*the data are on another machine"):
        good.build_env_to_module_connector(spaces=spaces)
    # In this process it is raised as it is.
    with pytest.raises(EnvFault, match="the data are on another machine"):
        GroupEnvRunner(config=good, worker_index=0).get_spaces()

    good.env_config = {"only_in_process": os.getpid()}
    made = GroupEnvRunner(config=good, worker_index=1).get_spaces()
    assert isinstance(made[INPUT_ENV_SPACES][0], gym.spaces.Text)


def test_an_environment_without_spaces_is_fine(good):
    good.environment(lambda _: Shows(), env_config={}).validate()
    spaces = GroupEnvRunner(config=good, worker_index=0).get_spaces()
    assert all(isinstance(space, gym.spaces.Text) for space in spaces[INPUT_ENV_SPACES])
