"""Evaluation: how good the policy is under settings of its own, or what a user's function says."""

import logging
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS, NUM_EPISODES
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.rllib.utils.typing import ResultDict

from sfpo_rllib.algorithms.grpo.evaluation_settings import grades_training_problems
from sfpo_rllib.env_runners.stream import Collection
from sfpo_rllib.env_runners.summary import num_sampled_tokens, summarize

logger = logging.getLogger(__name__)


class Evaluated(Algorithm):
    """An algorithm that is evaluated on groups, without a trace in its training."""

    evaluation_config: Any
    stage: str | None
    _expects_interrupt: bool
    _runner_metrics: MetricsLogger | None = None  # what callbacks log while evaluating
    _has_warned = False

    @override(Algorithm)
    def evaluate(self, parallel_train_future: Any = None) -> ResultDict:
        """Samples `evaluation_duration` completions under the evaluation settings.

        The problems are those of the seeds 0, 1, 2 and so on, with random streams of their own:
        training problems and random states are left alone. A `custom_evaluation_function` does
        what it likes instead; see `sample_evaluation()`.

        Returns:
            `{"env_runners": {...}}`, with the keys of the training results that apply, and what
            callbacks have logged in the runners; or what the custom function returns. Without any
            if `run()` was told to stop meanwhile.

        Raises:
            RuntimeError: If no group could be sampled.
            ValueError: If the custom function returns something else than RLlib says.
        """
        make_callback(
            "on_evaluate_start",
            callbacks_objects=self.callbacks,
            callbacks_functions=self.config.callbacks_on_evaluate_start,
            kwargs={"algorithm": self, "metrics_logger": self.metrics},
        )
        is_custom = self.evaluation_config.custom_evaluation_function is not None
        try:
            self.stage = "evaluate"
            results = self._call_custom() if is_custom else {ENV_RUNNER_RESULTS: self._grade()}
        except KeyboardInterrupt:
            if not self._expects_interrupt:
                raise
            return {ENV_RUNNER_RESULTS: {}}  # the iteration that it belongs to is none the worse
        finally:
            self.stage = None
        make_callback(
            "on_evaluate_end",
            callbacks_objects=self.callbacks,
            callbacks_functions=self.config.callbacks_on_evaluate_end,
            kwargs={
                "algorithm": self,
                "metrics_logger": self.metrics,
                "evaluation_metrics": results,
            },
        )
        return results

    def sample_evaluation(self) -> list[list[SingleAgentEpisode]]:
        """The episodes that `evaluate()` grades, for a `custom_evaluation_function`.

        Returns:
            Groups, a problem each, in the order of their seeds: `evaluation_duration` episodes in
            all, so that the last group may be smaller, without the groups that were dropped.

        Raises:
            RuntimeError: If no group could be sampled.
        """
        return [list(group) for group in self._sample().groups]

    @abstractmethod
    def _collect_evaluation(self, seeds: Sequence[int]) -> Collection:
        """One group a seed under the evaluation settings and the newest weights."""

    @abstractmethod
    def _send_newest_weights(self) -> None:
        """Has the engines run the weights that the learner has, if they do not."""

    def _sample(self) -> Collection:
        config = self.evaluation_config
        if not self._has_warned and grades_training_problems(self.config, config):
            self._has_warned = True
            logger.warning(
                "Evaluation grades training problems: its env and env_config are those of "
                "training. Hold some out, as in .evaluation(evaluation_config="
                "{'env_config': {'split': 'test'}}) with the environments of sfpo_envs."
            )
        num_groups = -(-config.evaluation_duration // config.group_size)
        collection = self._collect_evaluation(range(num_groups))
        if not collection.groups:
            reasons = sorted(set(collection.dropped.values()))[:3]
            raise RuntimeError(f"all {num_groups} groups of the evaluation were dropped: {reasons}")
        return collection

    def _grade(self) -> ResultDict:
        start = time.monotonic()
        collection = self._sample()
        groups, seconds = collection.groups, time.monotonic() - start
        numbers = {
            **summarize(groups),
            NUM_EPISODES: sum(map(len, groups)),
            "num_groups_dropped": len(collection.dropped),
            "num_groups_given_up": len(collection.given_up),
            "num_envs_timed_out": collection.num_envs_timed_out,
            "num_groups_reissued": collection.num_groups_reissued,
            "num_env_runners_lost": collection.num_runners_lost,
            "tokens_per_s": num_sampled_tokens(groups) / seconds,
            "weights_version": collection.weights_version,
        }
        results = self._logged_by_callbacks(collection.runner_metrics)
        for name, value in numbers.items():
            *parents, leaf = name.split("/")
            place = results
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = value
        return results

    def _logged_by_callbacks(self, runner_metrics: list[Any]) -> dict[str, Any]:
        """What callbacks logged, reduced as they say; apart from the metrics of training."""
        if self._runner_metrics is None:
            self._runner_metrics = MetricsLogger(
                root=True, stats_cls_lookup=self.config.stats_cls_lookup
            )
        self._runner_metrics.aggregate(runner_metrics)
        values = self._runner_metrics.peek()
        self._runner_metrics.reduce()
        return values

    def _call_custom(self) -> ResultDict:
        function = self.evaluation_config.custom_evaluation_function
        self._send_newest_weights()
        runners = self.eval_env_runner_group
        returned = function(self, self.env_runner_group if runners is None else runners)
        metrics, *steps = returned if isinstance(returned, tuple) else (returned,)
        if not isinstance(metrics, dict) or not (
            not steps or (len(steps) == 2 and all(isinstance(count, int) for count in steps))
        ):
            raise ValueError(
                f"custom_evaluation_function={function!r}: must return (metrics, env_steps, "
                f"agent_steps), a dict and two integers, or the metrics alone; got {returned!r}"
            )
        logged = self.metrics.peek(EVALUATION_RESULTS, default={})
        return {**logged, **metrics}
