"""What the algorithm knows of sampling: batches, evaluations, and the weights for both."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.env_runners.problem_ids import ProblemIds
from sfpo_rllib.env_runners.rollout import stable_hash
from sfpo_rllib.env_runners.stream import (
    Collection,
    Fleet,
    Group,
    GroupStream,
    ProblemChooser,
    collect,
    pack,
    unpack,
)
from sfpo_rllib.env_runners.summary import (
    has_equal_rewards,
    log_rollouts,
    num_cut_replies,
    renewed_fraction,
)
from sfpo_rllib.env_runners.weights import Mailbox

logger = logging.getLogger(__name__)


class Rollouts:
    """Samples under the learner's weights, as far behind as `max_staleness` has it.

    Attributes:
        version: Of the newest weights; -1 before there are any.
        stream: Of training's problems.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        *,
        runners: EnvRunnerGroup,
        eval_runners: EnvRunnerGroup | None,
        restore: Callable[[EnvRunnerGroup], Any],
        metrics: MetricsLogger,
        run_seed: int,
    ) -> None:
        """Initializes sampling of which nothing is under way.

        Args:
            config: The algorithm's.
            runners: For training, and for evaluation if there are no others.
            eval_runners: For evaluation.
            restore: Brings lost runners of a group back, and calls `welcome`.
            metrics: The algorithm's.
            run_seed: What problems and sampling seeds depend on.
        """
        self._config = config
        self._metrics = metrics
        self._groups = [runners] if eval_runners is None else [runners, eval_runners]
        self._mailbox = Mailbox() if config.weight_sync == "in_flight" else None
        self._fleets = [
            Fleet(
                group,
                timeout_s=config.rollout_timeout_s,
                restore=lambda group=group: restore(group),  # type: ignore[misc]
                restore_timeout_s=config.env_runner_restore_timeout_s,
                restarts=of_group.restart_failed_env_runners,
                mailbox=self._mailbox,
            )
            for group, of_group in zip(
                self._groups, (config, config.get_evaluation_config_object()), strict=False
            )
        ]
        self._publisher = config.weight_settings.publisher(
            has_remote_runners=any(group.num_remote_env_runners() > 0 for group in self._groups),
            members=self._fleets[0].members,
            timeout_s=config.rollout_timeout_s,
        )
        self.version = -1
        self._is_synced = False
        batch_size = config.total_train_batch_size // config.group_size
        self._problem_ids = ProblemIds(config.env, config.env_config)
        curriculum = config.curriculum
        self.stream = GroupStream(
            self._fleets[0],
            run_seed=run_seed,
            # Runs of different seeds see the problems in different orders.
            cursor=stable_hash("first problem", run_seed) % (1 << 31),
            batch_size=batch_size,
            job_size=config.stream_settings.job_size(batch_size),
            max_staleness=config.max_staleness,
            timeout_s=config.rollout_timeout_s,
            num_runners=config.num_env_runners,
            chooser=None if curriculum is None else ProblemChooser(curriculum, self._problem_ids),
        )
        self._last_batch_at: float | None = None
        self._has_warned = False

    def weights_change(self) -> None:
        """Says that the learner's weights are about to be others than the engines'.

        Engines that are to sleep meanwhile have then gone to sleep.
        """
        self._is_synced = False
        if self._config.sleep_while_learning:
            for fleet in self._fleets:
                fleet.sleep()

    def sync_weights(self, learners: GRPOLearnerGroup, *, wait: bool = True) -> None:
        """Sends the learner's weights to every engine.

        Args:
            learners: Have them.
            wait: Whether to wait until they are loaded.
        """
        self._is_synced = False
        try:
            weights = self._publisher.publish(learners)
            self.version = weights.version
            if self._mailbox is not None:
                self._mailbox.post(weights)
            for fleet in self._fleets:
                fleet.publish(weights, tell=wait or self._mailbox is None)
            if wait:
                for fleet in self._fleets:
                    fleet.wait_for_weights()
                self._publisher.settle()
        except BaseException:
            self._publisher.break_off()
            raise
        self._is_synced = True

    def ensure_synced(self, learners: GRPOLearnerGroup) -> None:
        """Sends the weights if the last iteration was interrupted before it did."""
        if not self._is_synced:
            self.sync_weights(learners)

    def welcome(self, runners: EnvRunnerGroup, worker_ids: Sequence[int]) -> None:
        """Sends the newest weights to runners that were started anew."""
        if worker_ids:
            self._publisher.forget_members()
        self._fleets[self._groups.index(runners)].welcome(worker_ids)

    def sample_batch(self, learners: GRPOLearnerGroup, number: int) -> list[Group]:
        """The groups of the next batch: always the same number, dropped ones replaced.

        Args:
            learners: Have the weights, if the engines have not.
            number: Of the batch.
        """
        self.ensure_synced(learners)
        config, start = self._config, time.monotonic()
        if config.max_staleness and self._last_batch_at is not None:
            start = self._last_batch_at  # the runners did not wait for us
        resample = config.equal_reward_groups == "resample"
        batch_size = config.total_train_batch_size // config.group_size
        batch = self.stream.take(
            number,
            version=self.version,
            set_aside=has_equal_rewards,
            at_most=config.max_resampling_rounds * batch_size if resample else 0,
        )
        self._last_batch_at = time.monotonic()
        ages = [self.version - version for version in batch.versions]
        counts: Counter[str] = self.stream.ledger.counts
        chooser = self.stream.chooser
        masked = num_cut_replies(batch.groups) if config.truncated_replies == "mask" else 0
        more: dict[str, float] = {}
        if self._mailbox is not None:
            more["renewed_fraction"] = renewed_fraction(batch.groups)
        if chooser is not None:
            more |= {f"curriculum/{name}": n for name, n in chooser.metrics().items()}
        self.log_runner_metrics()
        log_rollouts(
            self._metrics,
            batch.groups + batch.set_aside,
            {
                "num_groups_dropped": len(batch.dropped),
                "num_groups_given_up": len(batch.given_up),
                "num_groups_reissued": counts["num_groups_reissued"],
                "num_envs_timed_out": counts["num_envs_timed_out"],
                "num_groups_resampled": len(batch.set_aside),
                "num_replies_masked": masked,
                "weights_version": min(batch.versions),
                "weights_age/mean": fmean(ages),
                "weights_age/max": max(ages),
                **more,
            },
            seconds=self._last_batch_at - start,
        )
        counts.clear()
        if chooser is not None:
            chooser.counts.clear()
        self._warn_if_nothing_is_learned(batch.groups)
        return batch.groups

    def _warn_if_nothing_is_learned(self, groups: Sequence[Group]) -> None:
        """Says once that a batch has no advantage but 0."""
        config = self._config
        own = callable(config.policy_loss.advantages)  # it may give equal rewards another one
        if self._has_warned or own or not all(map(has_equal_rewards, groups)):
            return
        self._has_warned = True
        other = config.kl_coeff or config.entropy_coeff
        logger.warning(
            "All %d groups of a batch have equal rewards, so that every advantage is 0: %s. Are "
            "the problems all too hard or too easy, replies cut at max_tokens, or not in the form "
            "that the grader reads? num_groups_equal_reward counts such groups in each batch; "
            "this is said once.",
            len(groups),
            "only its KL and entropy terms train"
            if other
            else "it teaches nothing, and no optimizer step is taken",
        )

    def evaluate(self, learners: GRPOLearnerGroup, seeds: Sequence[int]) -> Collection:
        """One group a seed under the evaluation settings and the newest weights."""
        self.ensure_synced(learners)
        config = self._config
        return collect(
            self._fleets[-1],
            seeds,
            weights_version=self.version,
            # The same way whenever it is done.
            stream=(self.stream.run_seed, "evaluation"),
            evaluation=True,
            timeout_s=config.rollout_timeout_s,
            num_runners=config.evaluation_num_env_runners or config.num_env_runners,
        )

    def take_num_lost(self) -> int:
        """Runners that were lost since the last time, other than in evaluations."""
        lost = sum(fleet.num_lost for fleet in self._fleets)
        for fleet in self._fleets:
            fleet.num_lost = 0
        return lost

    def log_runner_metrics(self) -> None:
        """Hands on what callbacks have logged in the runners."""
        if self.stream.ledger.runner_metrics:
            self._metrics.aggregate(self.stream.ledger.runner_metrics, key=ENV_RUNNER_RESULTS)
            self.stream.ledger.runner_metrics.clear()

    def drain(self) -> None:
        """Waits until nothing is under way."""
        self.stream.drain()
        self.log_runner_metrics()

    def get_state(self) -> StateDict:
        """Where the stream is, once it is drained."""
        stream = self.stream
        return {
            "run_seed": stream.run_seed,
            "cursor": stream.cursor,
            "job_size": stream.job_size,
            "open": pack(stream.ledger.outcomes()),
            **({} if stream.chooser is None else {"curriculum": stream.chooser.get_state()}),
        }

    def set_state(self, state: StateDict) -> None:
        """Goes on from `get_state()`, with jobs of the size that they had there.

        States of earlier releases have nothing open. A curriculum that the state knows nothing of
        begins anew.
        """
        self.stream.reset(state["run_seed"], state["cursor"], unpack(state.get("open", [])))
        if self.stream.chooser is not None:
            self.stream.chooser.set_state(state.get("curriculum"))
        if self._config.groups_per_job is None:
            self.stream.job_size = state.get("job_size", self.stream.job_size)

    def stop(self) -> None:
        """Ends what is under way."""
        self.stream.forget()
        self._publisher.close()
        self._problem_ids.close()
        if self._mailbox is not None:
            self._mailbox.close()
