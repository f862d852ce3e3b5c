"""The driver's side of sampling: seeds out, whole groups back, none lost and none twice."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult
from sfpo_rllib.env_runners.runner_calls import Answers, call_runners

logger = logging.getLogger(__name__)

LOCAL = 0  # the id of the runner in this process
# A seed that was given up so often, the last time in a job of its own, is dropped.
MAX_ATTEMPTS = 3
# Those given up twice are asked for in jobs of so many times fewer seeds, at last each alone: so
# is found which of them it is that kills or hangs its runner, or takes too long.
SPLIT = 8
# Enough to come from a batch of any size to single seeds, and past the one at fault.
MAX_FRUITLESS_ROUNDS = 8
# A runner gives up its unfinished groups itself at the deadline, as soon as its engine's or its
# environment's step is over. One that has not answered so long after it, or after this share of
# rollout_timeout_s, is stuck, and is replaced.
GRACE_S = 30.0
GRACE_SHARE = 0.1


@dataclass
class Collection:
    """What came of a collection.

    Attributes:
        groups: Whole groups in the order of their seeds.
        dropped: Seeds whose environment or prompt failed, with the reason.
        given_up: Those of `dropped` that were not sampled in `MAX_ATTEMPTS` attempts.
        num_envs_timed_out: Environments that were left behind in a reset or step.
        num_runners_lost: Runners that died or were replaced while sampling.
        num_groups_reissued: Groups that were asked for again, after a deadline or a lost runner.
        runner_metrics: What callbacks logged in the runners.
    """

    groups: list[list[SingleAgentEpisode]] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    num_envs_timed_out: int = 0
    num_runners_lost: int = 0
    num_groups_reissued: int = 0
    runner_metrics: list[Any] = field(default_factory=list)


class GroupCollector:
    """Collects groups from the runners of one EnvRunnerGroup."""

    def __init__(
        self,
        env_runner_group: EnvRunnerGroup,
        *,
        timeout_s: float,
        restore: Callable[[], Any],
        sync_weights: Callable[[], Any],
        restore_timeout_s: float,
        restarts: bool = True,
    ) -> None:
        """Initializes a collector.

        Args:
            env_runner_group: The runners.
            timeout_s: Deadline of one round of sampling.
            restore: Brings failed runners back, as far as they are up again.
            sync_weights: Sends the current weights to every runner.
            restore_timeout_s: How long to wait for a runner when none is healthy.
            restarts: Whether Ray starts dead runners again. If not, nothing is waited for.
        """
        self._runners = env_runner_group
        self._timeout_s = timeout_s
        self._restore = restore
        self._sync_weights = sync_weights
        self._restore_timeout_s = restore_timeout_s
        self._losses: list[str] = []  # the reasons
        self._restarts = restarts

    def collect(
        self,
        seeds: Sequence[int],
        *,
        weights_version: int,
        stream: tuple[int | str, ...],
        evaluation: bool = False,
    ) -> Collection:
        """Samples one group a seed.

        The seeds of a runner that is lost, or that did not finish them in time, are issued again.
        One for which that goes on is found by asking for it alone, and dropped.

        Args:
            seeds: One a group, all different.
            weights_version: What the engines must run.
            stream: See `RolloutJob`.
            evaluation: See `RolloutJob`.

        Returns:
            The groups and what was dropped: together they are all of `seeds`.

        Raises:
            RuntimeError: If no runner is healthy, or none of the seeds can be sampled.
        """
        groups: dict[int, list[SingleAgentEpisode]] = {}
        collection = Collection()
        ledger = _Ledger(seeds)
        while ledger.pending:
            ids = self._wait_for_healthy()
            parts = dict(zip(ids, ledger.deal(len(ids)), strict=False))
            collection.num_groups_reissued += ledger.num_reissued(parts.values())
            jobs = {
                worker_id: RolloutJob(
                    tuple(part), weights_version, stream, evaluation, self._timeout_s
                )
                for worker_id, part in parts.items()
            }
            answers = self._sample(jobs)
            collection.num_runners_lost += len(answers.lost)
            self._losses += answers.lost.values()
            for worker_id, part in parts.items():
                result: RolloutResult | None = answers.values.get(worker_id)
                if result is None:
                    ledger.give_up(part, answers.lost[worker_id])
                    continue
                groups.update(result.groups)
                collection.dropped.update(result.dropped)
                collection.num_envs_timed_out += result.num_envs_timed_out
                if result.metrics is not None:
                    collection.runner_metrics.append(result.metrics)
                ledger.settle([*result.groups, *result.dropped])
                if result.stale_version is None:
                    ledger.give_up(part, f"not over within rollout_timeout_s={self._timeout_s}")
            results = answers.values.values()
            if any(result.stale_version is not None for result in results):
                self._sync_weights()
            for seed, reason in ledger.drop_worn_out().items():
                logger.warning("Group with seed %d is dropped: %s", seed, reason)
                collection.dropped[seed] = reason
                collection.given_up.append(seed)
            ledger.end_round(
                came_to_something=any(result.groups or result.dropped for result in results),
                only_raised=answers.lost.keys() == answers.raised.keys() and not results,
            )
        collection.groups = [groups[seed] for seed in seeds if seed in groups]
        return collection

    def _sample(self, jobs: dict[int, RolloutJob]) -> Answers:
        if LOCAL in jobs:
            return Answers({LOCAL: self._runners.local_env_runner.sample(job=jobs[LOCAL])})
        grace = max(GRACE_S, GRACE_SHARE * self._timeout_s)
        return call_runners(
            self._runners,
            "sample",
            {worker_id: {"job": job} for worker_id, job in jobs.items()},
            timeout_s=self._timeout_s + grace,
        )

    def _wait_for_healthy(self) -> list[int]:
        """The runners to ask: `LOCAL`, or the healthy ones of the remote ones."""
        if self._runners.num_remote_env_runners() == 0:
            return [LOCAL]
        deadline = time.monotonic() + self._restore_timeout_s
        while not self._runners.healthy_env_runner_ids():
            if not self._restarts:
                raise RuntimeError(
                    "no env runner is alive, and restart_failed_env_runners=False: the runners' "
                    "logs say why they died"
                )
            if time.monotonic() > deadline:
                reason = self._losses[-1] if self._losses else "see the runners' logs"
                raise RuntimeError(
                    f"no env runner is healthy, and none came back within "
                    f"{self._restore_timeout_s:.0f} s; the last one was lost as: {reason}"
                )
            self._restore()
        return list(self._runners.healthy_env_runner_ids())


class _Ledger:
    """Which seeds are still to be sampled, and how they have fared so far."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.pending = list(seeds)
        self._attempts: Counter[int] = Counter()
        self._job_size: dict[int, int] = {}  # of the last one a seed was in
        self._reasons: dict[int, str] = {}
        self._num_fruitless_rounds = self._num_raised_rounds = 0

    def deal(self, num_runners: int) -> list[list[int]]:
        """Seeds for one round, a part a runner.

        Suspects, given up twice, come last and in small parts, apart from all others.
        """
        fresh = [seed for seed in self.pending if self._attempts[seed] < 2]
        if fresh:
            parts = [fresh[i::num_runners] for i in range(min(num_runners, len(fresh)))]
        else:
            parts, rest = [], self.pending
            while rest and len(parts) < num_runners:
                size = max(1, self._job_size[rest[0]] // SPLIT)
                parts.append(rest[:size])
                rest = rest[size:]
        self._job_size.update({seed: len(part) for part in parts for seed in part})
        return parts

    def num_reissued(self, parts: Iterable[Sequence[int]]) -> int:
        """How many of the seeds have been asked for before."""
        return sum(self._attempts[seed] > 0 for part in parts for seed in part)

    def settle(self, seeds: Iterable[int]) -> None:
        """Takes off what was sampled or dropped."""
        settled = set(seeds)
        self.pending = [seed for seed in self.pending if seed not in settled]

    def give_up(self, part: Sequence[int], reason: str) -> None:
        """Counts an attempt of those of a part that are still pending."""
        for seed in set(part).intersection(self.pending):
            self._attempts[seed] += 1
            self._reasons[seed] = reason

    def drop_worn_out(self) -> dict[int, str]:
        """Takes off the seeds that are to be asked for no more; returns the reasons."""
        worn_out = {
            seed: f"not sampled in {self._attempts[seed]} attempts, the last one alone: "
            f"{self._reasons[seed]}"
            for seed in self.pending
            if self._attempts[seed] >= MAX_ATTEMPTS and self._job_size[seed] == 1
        }
        self.settle(worn_out)
        return worn_out

    def end_round(self, *, came_to_something: bool, only_raised: bool) -> None:
        """Counts rounds in a row that came to nothing.

        Args:
            came_to_something: Whether anything was sampled, or dropped for what it did.
            only_raised: Whether all runners raised: then it is hardly the problems.

        Raises:
            RuntimeError: If there were too many.
        """
        self._num_fruitless_rounds = 0 if came_to_something else self._num_fruitless_rounds + 1
        self._num_raised_rounds = self._num_raised_rounds + 1 if only_raised else 0
        if self.pending and (
            self._num_fruitless_rounds >= MAX_FRUITLESS_ROUNDS
            or self._num_raised_rounds > MAX_ATTEMPTS
        ):
            reasons = {self._reasons.get(seed, "stale weights") for seed in self.pending}
            raise RuntimeError(
                f"no group was sampled in {self._num_fruitless_rounds} rounds, "
                f"{len(self.pending)} are missing: {'; '.join(sorted(reasons)[:3])}"
            )
