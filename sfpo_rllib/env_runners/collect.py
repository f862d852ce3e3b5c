"""The driver's side of sampling: seeds out, whole groups back, none lost and none twice."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
# A runner gives up its unfinished groups itself at the deadline. One that has not answered so
# long after it is stuck, and is replaced.
GRACE_S = 30.0


@dataclass
class Collection:
    """What came of a collection.

    Attributes:
        groups: Whole groups in the order of their seeds.
        dropped: Seeds whose environment or prompt failed, with the reason.
        num_runners_lost: Runners that died or were replaced while sampling.
        num_groups_reissued: Groups that were asked for again, after a deadline or a lost runner.
        runner_metrics: What callbacks logged in the runners.
    """

    groups: list[list[SingleAgentEpisode]] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
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
    ) -> None:
        """Initializes a collector.

        Args:
            env_runner_group: The runners.
            timeout_s: Deadline of one round of sampling.
            restore: Brings failed runners back, as far as they are up again.
            sync_weights: Sends the current weights to every runner.
            restore_timeout_s: How long to wait for a runner when none is healthy.
        """
        self._runners = env_runner_group
        self._timeout_s = timeout_s
        self._restore = restore
        self._sync_weights = sync_weights
        self._restore_timeout_s = restore_timeout_s

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

        Args:
            seeds: One a group, all different.
            weights_version: What the engines must run.
            stream: See `RolloutJob`.
            evaluation: See `RolloutJob`.

        Returns:
            The groups and what was dropped: together they are all of `seeds`.

        Raises:
            RuntimeError: If no runner is healthy, or a seed was given up `MAX_ATTEMPTS` times.
        """
        done = RolloutResult()
        collection = Collection()
        attempts: Counter[int] = Counter()
        pending = list(seeds)
        while pending:
            worn_out = [seed for seed in pending if attempts[seed] >= MAX_ATTEMPTS]
            if worn_out:
                raise RuntimeError(
                    f"groups with seeds {worn_out[:5]} were not sampled in {MAX_ATTEMPTS} "
                    f"attempts: no answer within rollout_timeout_s={self._timeout_s}, or the "
                    "runners died (their logs say why)"
                )
            collection.num_groups_reissued += sum(attempts[seed] > 0 for seed in pending)
            attempts.update(pending)
            results, lost = self._round(pending, weights_version, stream, evaluation)
            collection.num_runners_lost += lost
            if any(result.stale_version is not None for result in results):
                self._sync_weights()
            for result in results:
                done.groups.update(result.groups)
                done.dropped.update(result.dropped)
                if result.metrics is not None:
                    collection.runner_metrics.append(result.metrics)
            pending = [s for s in pending if s not in done.groups and s not in done.dropped]
        collection.groups = [done.groups[seed] for seed in seeds if seed in done.groups]
        collection.dropped = done.dropped
        return collection

    def _round(
        self,
        seeds: list[int],
        weights_version: int,
        stream: tuple[int | str, ...],
        evaluation: bool,
    ) -> tuple[list[RolloutResult], int]:
        """Spreads the seeds over the healthy runners; returns what came, and runners lost."""

        def job(part: Sequence[int]) -> RolloutJob:
            return RolloutJob(tuple(part), weights_version, stream, evaluation, self._timeout_s)

        if self._runners.num_remote_env_runners() == 0:
            return [self._runners.local_env_runner.sample(job=job(seeds))], 0

        ids = self._wait_for_healthy()[: len(seeds)]
        parts = [seeds[i :: len(ids)] for i in range(len(ids))]
        results = self._runners.foreach_env_runner(
            "sample",
            kwargs=[{"job": job(part)} for part in parts],
            remote_worker_ids=ids,
            local_env_runner=False,
            timeout_seconds=self._timeout_s + GRACE_S,
        )
        if len(results) == len(ids):
            return results, 0
        # Dead runners have been marked by RLlib; those still marked healthy did not answer.
        answered = {seed for r in results for seed in (*r.groups, *r.dropped, *r.unfinished)}
        for worker_id, part in zip(ids, parts, strict=True):
            if not answered & set(part):
                self._replace_if_stuck(worker_id)
        return results, len(ids) - len(results)

    def _wait_for_healthy(self) -> list[int]:
        deadline = time.monotonic() + self._restore_timeout_s
        while not self._runners.healthy_env_runner_ids():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"no env runner is healthy, and none came back within "
                    f"{self._restore_timeout_s:.0f} s; the runners' logs say why they died"
                )
            self._restore()
        return list(self._runners.healthy_env_runner_ids())

    def _replace_if_stuck(self, worker_id: int) -> None:
        if worker_id in self._runners.healthy_env_runner_ids():
            logger.warning("Env runner %d did not answer in time and is replaced.", worker_id)
            kill_env_runner(self._runners, worker_id)


# RLlib has no public way to the handles of runners; this is the one place that reaches in.


def kill_env_runners(env_runner_group: EnvRunnerGroup) -> None:
    """Kills all remote runners, whatever they are at; none is started anew."""
    env_runner_group._worker_manager.clear()


def kill_env_runner(env_runner_group: EnvRunnerGroup, worker_id: int) -> None:
    """Kills a remote runner, so that Ray starts it anew and RLlib restores it."""
    manager = env_runner_group._worker_manager
    ray.kill(manager.actors()[worker_id], no_restart=False)
    manager.set_actor_state(worker_id, healthy=False)
