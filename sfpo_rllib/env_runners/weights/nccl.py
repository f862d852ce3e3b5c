"""Weights by NCCL: one learner broadcasts to the GPUs of all engines, by vLLM's own transfer."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from sfpo_rllib.env_runners.weights.device_tensors import DeviceTensors
from sfpo_rllib.env_runners.weights.object_store import ObjectStore
from sfpo_rllib.env_runners.weights.published import (
    WEIGHT_OFFER,
    PublishedWeights,
    WeightHolders,
    WeightPublisher,
    on_learners,
)

logger = logging.getLogger(__name__)

GRACE_S = 30.0  # for the learners' end, after the engines' deadline


@dataclass(frozen=True)
class Meeting:
    """Where the members of a broadcast meet.

    Attributes:
        master_address: Of the first learner, which sends.
        master_port: A free one there.
        world_size: GPUs of all engines, and the sender.
        packed: Whether small tensors travel together.
    """

    master_address: str
    master_port: int
    world_size: int
    packed: bool = True


class NCCL(WeightPublisher):
    """Engines and the first learner meet once, and then broadcast as often as there are updates.

    All engines must be at it at the same time. One that comes later, as its runner was started
    anew, gets the weights by the object store, and at the next update all meet again.
    """

    def __init__(
        self,
        *,
        members: Callable[[], Sequence[int]],
        gpus_per_engine: int,
        timeout_s: float,
        store: ObjectStore,
    ) -> None:
        """Initializes it.

        Args:
            members: The ids of the runners that may be called.
            gpus_per_engine: Workers of an engine.
            timeout_s: Deadline of an update. After it a runner is replaced, and the learners
                have failed.
            store: For a runner that comes later.
        """
        self._members = members
        self._gpus_per_engine = gpus_per_engine
        self._timeout_s = timeout_s
        self._store = store
        self._met: tuple[int, ...] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._sending: Future[Any] | None = None

    @override(WeightPublisher)
    def publish(self, learners: WeightHolders) -> PublishedWeights:
        self._end_broken_off()
        members, size = tuple(self._members()), self._gpus_per_engine
        version, update_info = on_learners(learners, _describe)[0]
        meeting = None
        if members != self._met or not all(on_learners(learners, _has_met)):
            address, port = on_learners(learners, _meeting_point)[0]
            meeting = Meeting(address, port, 1 + size * len(members))
        self._met = None  # if what follows is interrupted
        offer = {
            "init_info": {
                i: {**asdict(meeting), "rank_offset": 1 + n * size} for n, i in enumerate(members)
            }
            if meeting
            else {},
            "update_info": update_info,
        }
        self._sending = self._thread.submit(
            on_learners, learners, partial(_send, meeting=meeting), timeout_seconds=self._timeout_s
        )
        self._met = members
        return PublishedWeights(
            version,
            {WEIGHT_OFFER: offer, WEIGHTS_SEQ_NO: version},
            alone=lambda: self._store.publish(learners).state,
        )

    @override(WeightPublisher)
    def settle(self) -> None:
        sending, self._sending = self._sending, None
        if sending is None:
            return
        try:
            sent = sending.result(self._timeout_s + GRACE_S)
        except BaseException:
            self._met = None
            raise
        if not sent:  # RLlib leaves out who has not answered in time
            self._met = None
            raise self._too_late()

    @override(WeightPublisher)
    def break_off(self) -> None:
        self._met = None
        if self._sending is not None:
            self._sending.add_done_callback(_say_if_it_failed)

    def _end_broken_off(self) -> None:
        """Waits until learners are done with weights that nobody has settled.

        Raises:
            RuntimeError: If they are not in time.
        """
        if self._sending is None:
            return
        self._met = None
        if wait([self._sending], self._timeout_s + GRACE_S).not_done:
            raise self._too_late()
        self._sending = None

    def _too_late(self) -> RuntimeError:
        return RuntimeError(
            f"weight_transport='nccl': the learners did not send the weights within "
            f"rollout_timeout_s={self._timeout_s:g}"
        )

    @override(WeightPublisher)
    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    @override(WeightPublisher)
    def forget_members(self) -> None:
        self._met = None


def _say_if_it_failed(sending: Future[Any]) -> None:
    """Of weights that were broken off, of which nobody else hears."""
    error = None if sending.cancelled() else sending.exception()
    if error is not None:
        logger.warning("The learners did not send weights that were broken off: %r", error)


# What follows runs in the learners.


def _describe(learner: Any) -> tuple[int, dict[str, Any]]:
    source = DeviceTensors.of(learner)
    return source.version, source.update_info()


def _has_met(learner: Any) -> bool:
    """Not one that was started anew."""
    return getattr(learner, "weight_sender", None) is not None


def _meeting_point(learner: Any) -> tuple[str, int]:
    from vllm.utils.network_utils import get_open_port

    return ray.util.get_node_ip_address(), get_open_port()


class _NoClient:
    """Engines go through the phases of an update by themselves, when Ray comes to it."""

    def init_weight_transfer_engine(self, init_info: Any) -> None:
        pass

    def start_weight_update(self) -> None:
        pass

    def update_weights(self, update_info: Any) -> None:
        pass

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        pass


def _send(learner: Any, meeting: Meeting | None) -> bool:
    """Broadcasts, from the first learner; the others help it to gather."""
    if meeting is not None:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        if _has_met(learner):
            learner.weight_sender.shutdown()
        rank = torch.distributed.get_rank() if learner.config.num_learners > 1 else 0
        learner.weight_sender = WeightTransferTrainerFactory.trainer_init(
            NCCLTrainerInitInfo(**asdict(meeting), rank=rank),
            client=_NoClient(),
            source=DeviceTensors.of(learner),
        )
    learner.weight_sender.send_weights()
    return True
