"""The driver's CPU time a group, with few runners and with many.

Runners are threads that answer after a while, under RLlib's own actor manager: what is measured is
the time of the driver's thread alone, with all that it does for a group but Ray's transport.
"""

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from types import SimpleNamespace
from typing import Any

from ray.rllib.utils.actor_manager import FaultTolerantActorManager

from sfpo_rllib.env_runners import runner_calls
from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.stream import Fleet, GroupStream, StreamSettings
from sfpo_rllib.env_runners.weights import PublishedWeights
from sfpo_rllib.statistics import bootstrap_interval

NUM_RUNNERS = (4, 8, 16, 32, 64)
GROUPS_A_RUNNER, GROUP_SIZE, MAX_STALENESS = 16, 8, 1
JOB_S = 0.2  # the mean
DIGEST = EpisodeDigest(1.0, 1, 300, 250, 0, False, 1.0, True)


class _Wakened:
    """Stands for what the driver calls of Ray, on futures instead of references.

    Attributes:
        seconds: CPU time that the driver has spent in `wait`, which is Ray's own.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._changed = threading.Condition()

    def wait(
        self, refs: Sequence[Future], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Future], list[Future]]:
        """See `ray.wait`."""
        begun = time.thread_time()
        with self._changed:
            self._changed.wait_for(lambda: sum(ref.done() for ref in refs) >= num_returns, timeout)
            ready = [ref for ref in refs if ref.done()]
        rest = [ref for ref in refs if ref not in ready]
        self.seconds += time.thread_time() - begun
        return ready, rest

    @staticmethod
    def get(ref: Future) -> Any:
        """See `ray.get`."""
        return ref.result()

    @staticmethod
    def cancel(ref: Future) -> None:
        """See `ray.cancel`."""
        ref.cancel()

    def keep(self, refs: Sequence[Future], values: Sequence[Any]) -> None:
        """Ends calls."""
        with self._changed:
            for ref, value in zip(refs, values, strict=True):
                if not ref.cancelled():
                    ref.set_result(value)
            self._changed.notify_all()


class _ThreadRunner:
    """Answers in the order in which it is asked; a job takes `JOB_S`, more or less."""

    def __init__(self, ray: _Wakened, seed: int) -> None:
        self._ray, self._chance = ray, random.Random(seed)
        self._version = -1
        self._asked: SimpleQueue[Any] = SimpleQueue()
        self.apply = SimpleNamespace(options=self._options)
        threading.Thread(target=self._answer, daemon=True).start()

    def set_state(self, state: int) -> None:
        self._version = state

    def sample(self, job: RolloutJob) -> RolloutResult:
        if job.weights_version != self._version:
            return RolloutResult(unfinished=list(job.seeds), stale_version=self._version)
        time.sleep(JOB_S * self._chance.uniform(0.5, 1.5))
        return RolloutResult(groups={seed: [] for seed in job.seeds})

    def stop(self) -> None:
        self._asked.put(None)

    def _options(self, num_returns: int) -> Any:
        def remote(call: Callable[..., Any], **kwargs: Any) -> Any:
            refs: list[Future] = [Future() for _ in range(num_returns)]
            self._asked.put((call, kwargs, refs))
            return refs if num_returns > 1 else refs[0]

        return SimpleNamespace(remote=remote)

    def _answer(self) -> None:
        while (asked := self._asked.get()) is not None:
            call, kwargs, refs = asked
            if refs[0].cancelled():
                continue
            values = call(self, **kwargs)
            if len(refs) == 1:
                values = [values]
            elif values[0][0].groups:
                digests = [DIGEST] * GROUP_SIZE
                values[0][0].groups.update(dict.fromkeys(values[0][0].groups, digests))
            self._ray.keep(refs, values)


class _Group:
    """As much of an EnvRunnerGroup as calls on its runners need."""

    def __init__(self, ray: _Wakened, num_runners: int) -> None:
        self.ray = ray
        self.runners = [_ThreadRunner(ray, seed) for seed in range(num_runners)]
        self._worker_manager = FaultTolerantActorManager(actors=self.runners, init_id=1)

    def num_remote_env_runners(self) -> int:
        return len(self.runners)

    def healthy_env_runner_ids(self) -> list[int]:
        return list(self._worker_manager.healthy_actor_ids())


@contextmanager
def _in_threads(num_runners: int) -> Iterator[_Group]:
    ray, real = _Wakened(), runner_calls.ray
    runner_calls.ray = ray
    group = _Group(ray, num_runners)
    try:
        yield group
    finally:
        for runner in group.runners:
            runner.stop()
        runner_calls.ray = real


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """It would look through all that was imported, in one of many measurements."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_a_group(num_runners: int, *, batches: int) -> float:
    """CPU seconds of the driver's thread for one group of a batch that it samples ahead."""
    groups = GROUPS_A_RUNNER * num_runners
    with _no_garbage_collection(), _in_threads(num_runners) as runners:
        settings = StreamSettings(MAX_STALENESS, num_env_runners=num_runners)
        fleet = Fleet(runners, timeout_s=60, restore=lambda: None, restore_timeout_s=1)
        stream = GroupStream(
            fleet,
            run_seed=0,
            cursor=0,
            batch_size=groups,
            job_size=settings.job_size(groups),
            max_staleness=MAX_STALENESS,
            timeout_s=60,
            num_runners=num_runners,
        )
        fleet.publish(PublishedWeights(0, 0))
        ray, begun = runners.ray, 0.0
        for version in range(batches + 1):
            if version == 1:  # the first batch has more opened for it
                begun = time.thread_time() - ray.seconds
            stream.take(version, version=version, set_aside=lambda group: False, at_most=0)
            fleet.publish(PublishedWeights(version + 1, version + 1))
        return (time.thread_time() - ray.seconds - begun) / (batches * groups)


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Milliseconds of the driver a group, by the number of runners, in rounds.

    Args:
        folder: Of no use here.
        smoke: Whether to be quick about it.
    """
    del folder
    numbers = NUM_RUNNERS[::2] if smoke else NUM_RUNNERS
    rounds, batches = (1, 2) if smoke else (9, 6)
    taken: Mapping[int, list[float]] = {number: [] for number in numbers}
    for index in range(rounds):
        for number in numbers if index % 2 == 0 else reversed(numbers):
            taken[number].append(1e3 * seconds_a_group(number, batches=batches))
    return {
        "rounds": rounds,
        "batches": batches,
        "groups_a_runner": GROUPS_A_RUNNER,
        "group_size": GROUP_SIZE,
        "job_s": JOB_S,
        "max_staleness": MAX_STALENESS,
        "num_env_runners": {
            str(number): {
                "ms_a_group": median(all_ms),
                "ms_a_group_interval": list(bootstrap_interval(all_ms)),
                "all_ms": all_ms,
            }
            for number, all_ms in taken.items()
        },
    }
