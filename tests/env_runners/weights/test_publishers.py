"""How weights leave the learners otherwise than by the object store: the protocol, without a GPU.

The data itself goes by vLLM's NCCL and by CUDA, which these tests stand in for.
"""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.actor_manager import CallResult, ResultOrError
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from sfpo_rllib.env_runners.weights import WEIGHT_OFFER, ObjectStore, PublishedWeights
from sfpo_rllib.env_runners.weights import ipc as ipc_module
from sfpo_rllib.env_runners.weights import nccl as nccl_module
from sfpo_rllib.env_runners.weights.ipc import IPC
from sfpo_rllib.env_runners.weights.nccl import NCCL

UPDATE_INFO = {"names": ["a", "b"], "dtype_names": ["bfloat16"] * 2, "shapes": [[2], [3]]}


class Learners:
    """Two of them, in this process."""

    def __init__(self, *learners: Any) -> None:
        self.learners = learners
        self.version = 7
        self.late = False

    def engine_weights(self) -> tuple[int, Any]:
        return self.version, f"weights {self.version}"

    def foreach_learner(self, call: Any, timeout_seconds: float | None = None) -> list[CallResult]:
        if self.late and timeout_seconds is not None:
            return []  # as RLlib does
        results = []
        for i, learner in enumerate(self.learners):
            try:
                answer = ResultOrError(result=call(learner))
            except Exception as error:
                answer = ResultOrError(error=error)
            results.append(CallResult(i, answer, None))
        return results


# NCCL.


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The meetings of the broadcasts, None where the members had met before."""
    meetings: list[Any] = []
    monkeypatch.setattr(nccl_module, "_describe", lambda learner: (learner.version, UPDATE_INFO))
    monkeypatch.setattr(nccl_module, "_meeting_point", lambda learner: ("10.0.0.1", 1000))

    def send(learner: Any, meeting: Any) -> bool:
        meetings.append(meeting)
        learner.weight_sender = "it has met the engines"
        return True

    monkeypatch.setattr(nccl_module, "_send", send)
    return meetings


def make_nccl(members: list[int], *, gpus_per_engine: int = 1, timeout_s: float = 5.0) -> NCCL:
    return NCCL(
        members=lambda: members,
        gpus_per_engine=gpus_per_engine,
        timeout_s=timeout_s,
        store=ObjectStore(has_remote_runners=False),
    )


def offer_of(weights: PublishedWeights) -> Any:
    return weights.state[WEIGHT_OFFER]


@pytest.mark.parametrize("gpus_per_engine", [1, 4])
def test_every_gpu_of_every_engine_has_a_rank_of_its_own_behind_the_senders(sent, gpus_per_engine):
    learners = Learners(SimpleNamespace(version=3), SimpleNamespace(version=3))
    nccl = make_nccl([1, 2, 5], gpus_per_engine=gpus_per_engine)
    weights = nccl.publish(learners)
    nccl.settle()
    assert weights.version == weights.state[WEIGHTS_SEQ_NO] == 3
    offer = offer_of(weights)
    assert offer["update_info"] == UPDATE_INFO
    ranks = []
    for info in offer["init_info"].values():
        assert (info["master_address"], info["master_port"]) == ("10.0.0.1", 1000)
        assert info["world_size"] == 1 + 3 * gpus_per_engine
        ranks += range(info["rank_offset"], info["rank_offset"] + gpus_per_engine)
    assert list(offer["init_info"]) == [1, 2, 5]
    assert ranks == list(range(1, 1 + 3 * gpus_per_engine))
    assert [meeting.world_size for meeting in sent] == [1 + 3 * gpus_per_engine] * 2


def test_members_meet_once_and_again_when_one_was_started_anew_or_is_missing(sent):
    members = [1, 2]
    nccl = make_nccl(members)
    learners = Learners(SimpleNamespace(version=0))

    def met() -> list[int]:
        weights = nccl.publish(learners)
        nccl.settle()
        return list(offer_of(weights)["init_info"])

    assert [met(), met(), met()] == [[1, 2], [], []]
    nccl.forget_members()
    assert [met(), met()] == [[1, 2], []]
    members.remove(1)
    assert [met(), met()] == [[2], []]
    learners.learners = (SimpleNamespace(version=0),)
    assert [met(), met()] == [[2], []]
    assert [meeting is not None for meeting in sent] == [
        True,
        False,
        False,
        *[True, False] * 3,
    ]


def test_a_runner_that_comes_later_gets_the_weights_by_the_object_store(sent):
    weights = make_nccl([1]).publish(Learners(SimpleNamespace(version=7)))
    late = weights.state_for_one()
    assert late == {COMPONENT_RL_MODULE: "weights 7", WEIGHTS_SEQ_NO: 7}


def test_a_broadcast_that_fails_or_never_ends_is_an_error_and_all_meet_again(sent, monkeypatch):
    nccl = make_nccl([1])
    learners = Learners(SimpleNamespace(version=0))

    def fail(learner: Any, meeting: Any) -> None:
        raise ValueError("a cable")

    with monkeypatch.context() as patched:
        patched.setattr(nccl_module, "_send", fail)
        nccl.publish(learners)
        with pytest.raises(ValueError, match="a cable"):
            nccl.settle()
    assert list(offer_of(nccl.publish(learners))["init_info"]) == [1]
    nccl.settle()
    learners.late = True
    nccl.publish(learners)
    with pytest.raises(RuntimeError, match=r"weight_transport='nccl'.*rollout_timeout_s=5"):
        nccl.settle()
    learners.late = False
    assert list(offer_of(nccl.publish(learners))["init_info"]) == [1]


@pytest.mark.parametrize("is_told", [True, False])
def test_after_weights_that_were_broken_off_all_meet_again_and_not_before_they_were_sent(
    sent, monkeypatch, caplog, is_told
):
    learners, nccl = Learners(SimpleNamespace(version=0)), make_nccl([1])
    nccl.publish(learners)
    nccl.settle()
    go_on, log = threading.Event(), []

    def fail(learner: Any, meeting: Any) -> None:
        go_on.wait(5)
        log.append("sent")
        raise ValueError("a cable")

    def describe(learner: Any) -> Any:
        log.append("described")
        return 0, UPDATE_INFO

    with monkeypatch.context() as patched:
        patched.setattr(nccl_module, "_send", fail)
        assert not offer_of(nccl.publish(learners))["init_info"]  # they have met
    if is_told:
        nccl.break_off()
    monkeypatch.setattr(nccl_module, "_describe", describe)
    threading.Timer(0.2, go_on.set).start()
    assert list(offer_of(nccl.publish(learners))["init_info"]) == [1]
    nccl.settle()
    assert log == ["sent", "described"]
    assert ("a cable" in caplog.text) == is_told
    assert not offer_of(nccl.publish(learners))["init_info"]
    nccl.settle()


def test_a_send_that_does_not_end_is_an_error_of_the_next_weights(sent, monkeypatch):
    nccl, learners, end = (
        make_nccl([1], timeout_s=0.1),
        Learners(SimpleNamespace()),
        threading.Event(),
    )
    learners.learners[0].version = 0
    monkeypatch.setattr(nccl_module, "GRACE_S", 0.1)
    monkeypatch.setattr(nccl_module, "_send", lambda learner, meeting: end.wait(5))
    nccl.publish(learners)
    nccl.break_off()
    with pytest.raises(RuntimeError, match=r"weight_transport='nccl'.*rollout_timeout_s=0.1"):
        nccl.publish(learners)
    end.set()


def test_the_thread_that_sends_ends_with_the_publisher(sent):
    before = set(threading.enumerate())
    nccl = make_nccl([1])
    nccl.publish(Learners(SimpleNamespace(version=0)))
    nccl.settle()
    (thread,) = set(threading.enumerate()) - before
    nccl.close()
    thread.join(5)
    assert not thread.is_alive()


# CUDA IPC.


class Source:
    """The weights of a learner."""

    version = 4

    def __iter__(self) -> Any:
        return iter([("a", torch.ones(2)), ("b", torch.ones(3).expand(2, 3))])

    def update_info(self) -> Any:
        return UPDATE_INFO


@pytest.fixture
def of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc_module.DeviceTensors, "of", lambda learner: Source())
    handles = iter("wxyz")
    monkeypatch.setattr(ipc_module, "_handle", lambda tensor: {next(handles): tensor.shape})


def test_learners_hold_what_engines_on_their_gpus_read_and_let_go_of_it_then(of_devices):
    one, other = SimpleNamespace(), SimpleNamespace()
    ipc = IPC(store=ObjectStore(has_remote_runners=False))
    weights = ipc.publish(Learners(one, other))
    assert weights.version == 4
    sent = offer_of(weights)["update_info"]
    # By weight, and in it by the GPU: the learners' handles of a weight are side by side.
    assert [sorted(handle) for handle in sent["ipc_handles"]] == [["w", "y"], ["x", "z"]]
    assert {name: sent[name] for name in UPDATE_INFO} == UPDATE_INFO
    for learner in (one, other):
        assert all(tensor.is_contiguous() for tensor in learner.held_weights)
        assert len(learner.held_weights) == 2
    assert weights.state_for_one()[COMPONENT_RL_MODULE] == "weights 7"
    ipc.settle()
    assert one.held_weights == other.held_weights == []


def test_learners_let_go_of_what_no_engine_is_to_read_any_more(of_devices, monkeypatch):
    ipc, learners = IPC(store=ObjectStore(has_remote_runners=False)), Learners(SimpleNamespace())
    (learner,) = learners.learners
    ipc.publish(learners)
    ipc.break_off()
    assert learner.held_weights == []
    learners.learners = (learner, None)  # which cannot hold any
    with pytest.raises(AttributeError):
        ipc.publish(learners)
    assert learner.held_weights
    learners.learners = (learner,)
    ipc.break_off()
    assert learner.held_weights == []
