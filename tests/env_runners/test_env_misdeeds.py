"""Environments in threads that are stuck, raise or are interrupted: they cost their group alone."""

import _thread
import threading
import time
from typing import Any

import pytest
from scripted import Acts, Bench

from sfpo_rllib.env_runners.rollout import GroupRollout

BAD = 5
SEEDS = [7, BAD, 9]


@pytest.mark.parametrize("where", ["reset", "step"])
def test_a_stuck_environment_costs_its_group_and_no_thread(bench, until, where):
    def act(seed: int) -> None:
        if seed == BAD:
            until.wait(60)

    b = bench(1, timeout_s=1.0, **{where: act})
    start = time.monotonic()
    result = b.run(SEEDS)
    assert time.monotonic() - start < 30
    assert set(result.groups) == {7, 9}
    assert f"{where}(" in result.dropped[BAD]
    assert "took longer than env_timeout_s=1.0; it is at" in result.dropped[BAD]
    assert result.num_envs_timed_out == 1
    # The one thread there is has work to do.
    assert set(b.run([1, 2, 3]).groups) == {1, 2, 3}
    until.set()
    stuck = [env for env in b.made if env not in {guarded.env for guarded in b.pool._free}]
    assert len(stuck) == 1 and stuck[0].closed.wait(20)


@pytest.mark.parametrize("where", ["reset", "step"])
def test_at_the_deadline_a_stuck_environment_is_left_behind_without_a_time_out_too(
    bench, until, where, caplog
):
    def act(seed: int) -> None:
        if seed == BAD:
            until.wait(60)

    b = bench(4, **{where: act})
    start = time.monotonic()
    result = b.run(SEEDS, timeout_s=1.0)
    assert time.monotonic() - start < 30
    assert set(result.groups) == {7, 9} and result.unfinished == [BAD]
    assert f"{where}(" in caplog.text and "was not over at the deadline" in caplog.text
    assert b.engine.num_aborts == 1
    assert set(b.run([1, 2, 3]).groups) == {1, 2, 3}


ERRORS = [OSError("the tool broke"), SystemExit(3), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["reset", "step"])
def test_what_an_environment_raises_drops_its_group_and_no_other(bench, error, where):
    def act(seed: int) -> None:
        if seed == BAD:
            raise error

    b = bench(3, **{where: act})
    for _ in range(2):
        result = b.run(SEEDS, group_size=3)
        assert set(result.groups) == {7, 9}
        assert type(error).__name__ in result.dropped[BAD]


def test_a_dropped_group_waits_for_none_of_its_members(bench, until):
    """One raises while its sibling is stuck in its step: the job is over all the same."""
    count = iter(range(100))

    def act(seed: int) -> None:
        if seed == BAD:
            if next(count):
                raise OSError("the tool broke")
            until.wait(60)

    b = bench(4, step=act)
    start = time.monotonic()
    result = b.run(SEEDS, timeout_s=60.0)
    assert time.monotonic() - start < 20
    assert set(result.groups) == {7, 9} and set(result.dropped) == {BAD}
    assert b.engine.num_aborts == 0
    assert set(b.run([1, 2, 3]).groups) == {1, 2, 3}


def test_members_that_are_shown_different_problems_drop_their_group(tokenizer):
    count = iter(range(100))

    class IgnoresItsSeed(Acts):
        def reset(self, **kwargs: Any) -> tuple[str, dict]:
            super().reset(**kwargs)
            return f"{next(count)}=", {}

    b = Bench(tokenizer, lambda r: ("1", False), env_class=IgnoresItsSeed, num_env_threads=3)
    result = b.run([3, 4], group_size=4)
    assert set(result.dropped) == {3, 4}
    assert "shown different problems" in result.dropped[3]


# Ends.


def test_ctrl_c_while_environments_are_waited_for_leaves_nothing_behind(bench, until):
    is_first = True

    def act(seed: int) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            _thread.interrupt_main()
            until.wait(60)

    b = bench(2, step=act)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        b.run(SEEDS, timeout_s=60.0)
    assert time.monotonic() - start < 20
    assert not b.engine.in_flight and not b.pool._taken
    assert set(b.run(SEEDS).groups) == set(SEEDS)


def test_a_cancelled_job_ends_while_environments_are_waited_for(bench, until, monkeypatch):
    is_waiting = threading.Event()

    def act(seed: int) -> None:
        is_waiting.set()
        until.wait(60)

    b = bench(2, step=act)
    init = GroupRollout.__init__

    def cancelled(self, *args, **kwargs):
        init(self, *args, **kwargs, is_cancelled=is_waiting.is_set)

    monkeypatch.setattr(GroupRollout, "__init__", cancelled)
    start = time.monotonic()
    result = b.run(SEEDS, timeout_s=60.0)
    assert time.monotonic() - start < 20
    assert sorted(result.unfinished) == sorted(SEEDS) and b.engine.num_aborts == 1
