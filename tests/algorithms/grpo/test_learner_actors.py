"""Calls on processes that wait for each other, one of which fails; small ones, not learners."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray.exceptions import RayActorError

from sfpo_rllib.algorithms.grpo import learner_actors
from sfpo_rllib.algorithms.grpo.learner_actors import LearnerActors, LearnerError
from sfpo_rllib.remote import values_of


@ray.remote(num_cpus=0)
class Process:
    """Applies functions to its number, as a learner does to itself."""

    def __init__(self, number: int) -> None:
        self.number = number

    def apply(self, func: Callable[..., Any], **kwargs: Any) -> Any:
        """See `Learner.apply`."""
        return func(self.number, **kwargs)


@pytest.fixture(scope="module")
def lasting(ray_cluster: None) -> Iterator[LearnerActors]:
    """For tests that none of them comes to harm in."""
    yield from started(3)


@pytest.fixture
def actors(ray_cluster: None) -> Iterator[LearnerActors]:
    """For the others."""
    yield from started(2)


def started(count: int) -> Iterator[LearnerActors]:
    processes = [Process.remote(number) for number in range(count)]
    yield LearnerActors(processes, advice="Do this.")
    for process in processes:
        ray.kill(process)


def raising(where: dict[int, str], *, wait: bool = False) -> Callable[[int], int]:
    """Raises in some processes; others wait for them, as in a collective operation."""

    def call(number: int) -> int:
        if number in where:
            raise OSError(where[number])
        if wait:
            time.sleep(3600)
        return number

    return call


def ended(actors: LearnerActors, *words: str) -> None:
    """Whatever is called after the end says the same."""
    for _ in range(2):
        with pytest.raises(LearnerError) as error:
            actors.foreach_actor(lambda number: number)
        for word in words:
            assert word in str(error.value)


def test_answers_come_in_order_from_those_that_are_asked(lasting):
    assert values_of(lasting.foreach_actor(lambda number: number)) == [0, 1, 2]
    results = lasting.foreach_actor(lambda number: number, remote_actor_ids=[2, 0])
    assert [(r.actor_id, r.get()) for r in results] == [(2, 2), (0, 0)]
    refs = values_of(lasting.foreach_actor(lambda number: number, return_obj_refs=True))
    assert ray.get(refs) == [0, 1, 2]


def test_what_one_raises_is_its_result_and_the_others_are_none_the_worse(lasting):
    results = lasting.foreach_actor(raising({1: "disk full"}))
    assert [r.ok for r in results] == [True, False, True]
    with pytest.raises(OSError, match="disk full"):
        values_of(results)
    assert values_of(lasting.foreach_actor(lambda number: number)) == [0, 1, 2]


def test_what_one_raises_while_state_changes_ends_all(actors):
    actors.changing = True
    with pytest.raises(LearnerError, match=r"learner 1 of 2 raised OSError: disk full\nDo this\."):
        actors.foreach_actor(raising({1: "disk full"}))
    actors.changing = False
    ended(actors, "learner 1 of 2", "disk full")
    for process in actors.actors().values():  # their devices are free, once Ray has ended them
        deadline = time.monotonic() + 60
        with pytest.raises(RayActorError):
            while time.monotonic() < deadline:
                ray.get(process.apply.remote(lambda number: number))
                time.sleep(0.05)


def test_one_that_raises_and_leaves_others_waiting_ends_all_in_seconds(actors, monkeypatch):
    monkeypatch.setattr(learner_actors, "GRACE_S", 0.5)
    actors.foreach_actor(lambda number: number)  # they are up
    start = time.monotonic()
    with pytest.raises(LearnerError, match="learner 1 of 2 raised OSError: disk full"):
        actors.foreach_actor(raising({1: "disk full"}, wait=True))
    assert time.monotonic() - start < 60  # and not the hour that the others sleep
    ended(actors, "learner 1 of 2")


def test_the_one_that_died_is_named_and_not_those_that_lost_their_peer(actors):
    """Survivors notice first, and say so."""

    def die(number: int) -> None:
        if number == 1:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection reset by peer.")

    with pytest.raises(LearnerError, match=r"learner 1 of 2 died: The actor is dead.*\(pid: \d+"):
        actors.foreach_actor(die)
    ended(actors, "learner 1 of 2 died")


def test_the_one_that_raised_is_named_and_not_those_that_lost_their_peer(actors):
    actors.changing = True
    where = {0: "NCCL communicator was aborted", 1: "no space left"}
    with pytest.raises(LearnerError, match="learner 1 of 2 raised OSError: no space left"):
        actors.foreach_actor(raising(where))


def test_a_call_that_is_over_before_its_answers_is_no_failure(lasting):
    slow = [lambda number: number, lambda number: time.sleep(2), lambda number: number]
    results = lasting.foreach_actor(slow, kwargs=[{}, {}, {}], timeout_seconds=1.0)
    assert [r.actor_id for r in results] == [0, 2]
    assert values_of(lasting.foreach_actor(lambda number: number)) == [0, 1, 2]
