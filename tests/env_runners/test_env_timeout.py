"""Environments that take too long are left behind; jobs are over at their deadline."""

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
from scripted import Bench

from sfpo_rllib.env_runners.env_thread import EnvThread, is_done
from sfpo_rllib.env_runners.rollout import GroupRollout
from sfpo_rllib.token_trace import TokenTrace

BAD = 5
SEEDS = [7, BAD, 9]


class Stuck(gym.Env):
    """One turn; its constructor, reset or step for seed 5 waits until the test is over."""

    def __init__(self, where: str = "step", until: threading.Event | None = None) -> None:
        self._where, self._until = where, until
        self.closed = threading.Event()
        self.thread = threading.current_thread()
        # May be used by the thread that made it alone.
        self.database = sqlite3.connect(":memory:")
        self._wait("constructor")

    def _wait(self, where: str) -> None:
        if self._until is not None and self._where == where:
            self._until.wait(60)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        self._seed = seed
        self.database.execute("select 1")
        if seed == BAD:
            self._wait("reset")
        return f"{seed}=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        self.database.execute("select 1")
        if self._seed == BAD:
            self._wait("step")
        return "", 1.0, True, False, {}

    def close(self) -> None:
        self.database.close()
        self.closed.set()


@pytest.fixture
def bench(tokenizer, until) -> Callable[..., Bench]:
    def make(timeout_s: float | None = 1.0, where: str = "step") -> Bench:
        env = {"where": where, "until": until}
        return Bench(tokenizer, lambda r: ("1", False), env_class=Stuck, timeout_s=timeout_s, **env)

    return make


def num_threads() -> int:
    return sum(thread.name == "environment" for thread in threading.enumerate())


@pytest.mark.parametrize("where", ["reset", "step"])
def test_an_environment_that_is_stuck_drops_its_group_and_harms_no_other(bench, where):
    b = bench(where=where)
    start = time.monotonic()
    result = b.run(SEEDS, group_size=3)
    assert time.monotonic() - start < 20  # once 1 s, not once a member
    assert set(result.groups) == {7, 9}
    assert f"{where}(" in result.dropped[BAD]
    assert "took longer than env_timeout_s=1.0" in result.dropped[BAD]
    assert "test_env_timeout.py:" in result.dropped[BAD]  # where it is
    assert result.num_envs_timed_out == 1


def test_a_stuck_environment_is_replaced_and_closes_itself_should_it_ever_come_back(bench, until):
    b = bench()
    b.run(SEEDS)
    (stuck,) = set(b.made) - {guarded.env for guarded in b.pool._free}
    again = b.run([1, 2, 3])
    assert set(again.groups) == {1, 2, 3}
    assert stuck._seed == BAD  # it was not used again
    assert not stuck.closed.is_set()
    until.set()
    assert stuck.closed.wait(20)
    stuck.thread.join(20)
    assert not stuck.thread.is_alive()


def test_without_a_time_out_environments_run_in_the_callers_thread(bench, until):
    until.set()
    b = bench(timeout_s=None)
    b.run(SEEDS)
    assert {env.thread for env in b.made} == {threading.current_thread()}


def test_an_environment_keeps_its_thread_for_life_and_no_thread_is_left(bench, until):
    until.set()
    before = num_threads()
    b = bench(timeout_s=60.0)
    for _ in range(3):
        assert set(b.run(SEEDS).groups) == set(SEEDS)
    threads = {env.thread for env in b.made}
    assert len(threads) == len(b.made) == 6  # sqlite would have raised in any other
    b.pool.close()
    assert all(env.closed.is_set() for env in b.made)
    for thread in threads:
        thread.join(20)
    assert num_threads() == before


def test_failed_environments_leave_no_thread(tokenizer):
    class Unmade(gym.Env):
        def __init__(self) -> None:
            raise OSError("no such file")

    before = num_threads()
    b = Bench(tokenizer, lambda r: ("1", False), env_class=Unmade, timeout_s=60.0)
    assert set(b.run(SEEDS).dropped) == set(SEEDS)
    deadline = time.monotonic() + 20
    while num_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert num_threads() == before


def test_results_with_and_without_threads_are_equal(bench, until):
    until.set()
    runs = [bench(timeout_s=timeout_s).run(SEEDS, group_size=3) for timeout_s in (None, 60.0)]
    for one, other in zip(*([e for s in SEEDS for e in r.groups[s]] for r in runs), strict=True):
        assert one.get_rewards() == other.get_rewards()
        assert one.get_observations() == other.get_observations()
        assert TokenTrace.of(one).token_ids.tolist() == TokenTrace.of(other).token_ids.tolist()


@pytest.mark.parametrize("where", ["constructor", "reset", "step"])
def test_at_the_deadline_a_stuck_environment_is_given_up_and_what_is_finished_is_kept(bench, where):
    b = bench(timeout_s=60.0, where=where)
    order = [9, 7, BAD] if where == "reset" else [BAD, 7, 9]  # the newest reply comes first
    start = time.monotonic()
    result = b.run(order, timeout_s=1.0)
    assert time.monotonic() - start < 30
    assert BAD in result.unfinished and not result.dropped
    if where == "step":
        assert set(result.groups) == {7, 9}
    assert b.engine.num_aborts == 1


def test_a_cancelled_job_stops_between_steps(bench, until, monkeypatch):
    until.set()
    b = bench()
    steps = iter(range(100))
    init = GroupRollout.__init__

    def cancelled(self, *args, **kwargs):
        init(self, *args, **kwargs, is_cancelled=lambda: next(steps) >= 7)

    monkeypatch.setattr(GroupRollout, "__init__", cancelled)
    result = b.run(SEEDS)  # five looks before resets, then one after each reply but the last
    assert set(result.groups) == {9} and b.engine.num_aborts == 1


def test_waiting_for_ever_is_waiting_long():
    thread = EnvThread()
    assert is_done(thread.submit(lambda: 3), float("inf"))
    thread.finish()
