"""Runners without Ray: functions that answer jobs, in an order that a test chooses."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.runner_calls import Answer, Call, Calls
from sfpo_rllib.env_runners.weights import PublishedWeights

Sample = Callable[[RolloutJob], RolloutResult | None]


def complete(job: RolloutJob) -> RolloutResult:
    """Samples every group, in an order of its own; a group says where its seed went."""
    groups: Any = {
        seed: [("group", seed, job.stream, job.weights_version)] for seed in reversed(job.seeds)
    }
    return RolloutResult(groups=groups, metrics=("metrics", len(groups)))


class FakeRunners(Calls):
    """Stands for the calls on an EnvRunnerGroup: a function a runner, which returns None if it is
    lost.

    Like the real ones they answer in the order in which they are asked, run the weights that they
    were sent last, and say so if a job names others.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        healthy: Sequence[int] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        super().__init__()
        self.samples = dict(enumerate(samples, start=1))
        self._healthy = list(self.samples if healthy is None else healthy)
        self.come_back = False  # lost runners, at once
        self.raise_instead = False  # of dying
        self.loaded: dict[int, int] = {}  # versions
        self.refuses: set[int] = set()  # runners that raise when they are to load weights
        self.slow: set[int] = set()  # runners that answer when no other is at anything
        self.jobs: list[tuple[int, RolloutJob]] = []  # those that were begun
        self.sent: list[tuple[int, str, Any]] = []
        self.cancelled: list[RolloutJob] = []
        self._chance = chance

    def healthy(self) -> list[int]:
        return list(self._healthy)

    def revive(self, *worker_ids: int) -> None:
        self._healthy = sorted({*self._healthy, *worker_ids})

    def send(
        self,
        worker_id: int,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        about: Any = None,
    ) -> Call:
        assert worker_id in self._healthy
        call = Call(worker_id, method, timeout_s, about, dict(arguments))
        self.sent.append((worker_id, method, next(iter(arguments.values()), None)))
        self._lines[worker_id].append(call)
        return call

    def poll(self, *, wait: bool = True) -> list[Answer]:
        """One runner answers, or with a `chance` one that is drawn."""
        busy = [worker_id for worker_id, line in self._lines.items() if line]
        if not wait or not busy:
            return []
        busy = [worker_id for worker_id in busy if worker_id not in self.slow] or busy
        worker_id = self._chance.choice(busy) if self._chance else busy[0]
        call = self._lines[worker_id].popleft()
        if call.method == "set_state":
            if worker_id in self.refuses:
                return self.lose(call, "it refuses", raised=True)
            self.loaded[worker_id] = call.ref["state"]
            return [Answer(call)]
        if call.method == "sleep":
            self.loaded.pop(worker_id, None)
            return [Answer(call)]
        job = call.ref["job"]
        self.jobs.append((worker_id, job))
        if (loaded := self.loaded.get(worker_id, -1)) != job.weights_version:
            return [Answer(call, RolloutResult(unfinished=list(job.seeds), stale_version=loaded))]
        result = self.samples[worker_id](job)
        if result is None:
            return self.lose(call, "the tool took it down", raised=self.raise_instead)
        return [Answer(call, result)]

    def lose(self, call: Call, reason: str, *, raised: bool = False) -> list[Answer]:
        line = self._lines[call.worker_id]
        answers = [Answer(call, lost=reason, at_fault=True, raised=raised)]
        answers += [Answer(other, lost=reason) for other in line]
        line.clear()
        self.loaded.pop(call.worker_id, None)
        if not self.come_back:
            self._healthy.remove(call.worker_id)
        return answers

    def die_idle(self, worker_id: int) -> None:
        """Nobody notices: it is started anew, without weights."""
        self.loaded.pop(worker_id, None)

    def cancel(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._lines[call.worker_id].remove(call)
            self.cancelled.append(call.ref["job"])

    def seeds_asked_for(self) -> list[int]:
        return [seed for _, job in self.jobs for seed in job.seeds]


def weights(version: int) -> PublishedWeights:
    """Weights that are nothing but their version."""
    return PublishedWeights(version, version)
