"""GRPO for language models over gymnasium text environments, through group rollouts."""

import secrets
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.typing import ModuleID, StateDict

from sfpo_rllib.algorithms.grpo import resources
from sfpo_rllib.algorithms.grpo.engine_check import check_engine, sample_all
from sfpo_rllib.algorithms.grpo.evaluation import Evaluated
from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig
from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.checkpoints import CheckpointedAlgorithm, with_own_metrics
from sfpo_rllib.checkpoints.places import PathLike
from sfpo_rllib.core.balance import even_shares
from sfpo_rllib.env_runners.collect import Collection as GroupCollection
from sfpo_rllib.env_runners.collect import GroupCollector
from sfpo_rllib.env_runners.rollout import stable_hash
from sfpo_rllib.env_runners.runner_calls import call_runners
from sfpo_rllib.env_runners.summary import (
    has_equal_rewards,
    log_rollouts,
    num_cut_replies,
)
from sfpo_rllib.env_runners.text_envs import make_text_env
from sfpo_rllib.rl_modules.export import PretrainedExport, staged
from sfpo_rllib.token_trace import TokenTrace

_DRIVER_STATE = "rollout_driver"
_LEARNER_MODULE = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"

Group = list[SingleAgentEpisode]


class GRPO(CheckpointedAlgorithm, Evaluated):
    """Samples groups, updates once on each batch of them, sends the weights to the engines.

    The driver owns the problem cursor: it hands out consecutive seeds, so that the training
    problems do not depend on the number of runners or on which of them fail.
    """

    config: GRPOConfig
    learner_group: GRPOLearnerGroup

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> GRPOConfig:
        return GRPOConfig()

    @override(Algorithm)
    def setup(self, config: AlgorithmConfig) -> None:
        resources.check_cluster_resources(type(self), self.config)
        resources.check_memory(self.config)
        self._export = PretrainedExport(self.config.model_config)
        self._run_seed = secrets.randbits(31) if self.config.seed is None else self.config.seed
        # Runs of different seeds see the problems in different orders.
        self._cursor = stable_hash("first problem", self._run_seed) % (1 << 31)
        self._weights_version = -1
        self._weights_are_synced = False
        self._num_runners_lost = 0  # in this iteration
        super().setup(config)
        self._sync_weights()
        check_engine(self.config, self.env_runner_group, self.learner_group)
        if self.eval_env_runner_group is not None:
            sample_all(self.evaluation_config, self.eval_env_runner_group)

    @override(Algorithm)
    def training_step(self) -> None:
        self.learner_group.check()  # before a batch is sampled that none can learn from
        self._before_batch = self._cursor, self.metrics.get_state()
        with self._timed_stage("sample"):
            groups = self._sample_batch()
        self._weights_are_synced = False
        with self._timed_stage("learn"):
            self._learn(groups)
        with self._timed_stage("sync_weights"):
            self._sync_weights()
        self._log_failures()

    def _log_failures(self) -> None:
        for key, count in (
            ((ENV_RUNNER_RESULTS, "num_env_runners_lost"), self._num_runners_lost),
            ((LEARNER_RESULTS, "num_learner_restarts_lifetime"), self.learner_group.num_restarts),
        ):
            self.metrics.log_value(key, count, reduce="mean", window=1)
        self._num_runners_lost = 0

    def give_up_batch(self) -> bool:
        """Forgets the batch of a `train()` that was interrupted.

        Returns:
            Whether the state is that of the last iteration, and may be saved: the batch was only
            sampled. The learner's update cannot be taken back.
        """
        if self.stage != "sample":
            return False
        self._cursor, metrics = self._before_batch
        self.metrics.set_state(metrics)
        self.stage = None
        return True

    def _sample_batch(self) -> list[Group]:
        """Samples the groups of one batch: always the same number, dropped ones replaced."""
        cursor = self._cursor
        try:
            return self._sample_groups()
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C: the next attempt is at the same problems
                self._cursor = cursor
            raise

    def _sample_groups(self) -> list[Group]:
        start = time.monotonic()
        num_groups = self.config.total_train_batch_size // self.config.group_size
        resample = self.config.equal_reward_groups == "resample"
        rounds = self.config.max_resampling_rounds if resample else 0
        groups: list[Group] = []
        set_aside: list[Group] = []  # equal rewards
        sampled: list[Group] = []
        tally: Counter[str] = Counter()
        while len(groups) < num_groups:
            collection = self._collect(self._next_seeds(num_groups - len(groups)))
            tally["num_groups_dropped"] += len(collection.dropped)
            tally["num_groups_given_up"] += len(collection.given_up)
            tally["num_groups_reissued"] += collection.num_groups_reissued
            tally["num_envs_timed_out"] += collection.num_envs_timed_out
            if tally["num_groups_dropped"] >= max(num_groups, 16):
                reasons = sorted(set(collection.dropped.values()))[:3]
                raise RuntimeError(
                    f"{tally['num_groups_dropped']} groups were dropped while sampling a batch of "
                    f"{num_groups}, the last ones for: {reasons}"
                )
            self.metrics.aggregate(collection.runner_metrics, key=ENV_RUNNER_RESULTS)
            sampled += collection.groups
            for group in collection.groups:
                (set_aside if resample and has_equal_rewards(group) else groups).append(group)
            if rounds == 0:  # what no further round may replace is kept
                missing = num_groups - len(groups)
                groups, set_aside = groups + set_aside[:missing], set_aside[missing:]
            rounds = max(rounds - 1, 0)
        tally["num_groups_resampled"] = len(set_aside)
        tally["num_replies_masked"] = 0
        if self.config.truncated_replies == "mask":
            tally["num_replies_masked"] = num_cut_replies(groups)
        log_rollouts(
            self.metrics,
            sampled,
            {**tally, "weights_version": self._weights_version},
            seconds=time.monotonic() - start,
        )
        return groups

    def _next_seeds(self, count: int) -> list[int]:
        """Moves the problem cursor."""
        seeds = list(range(self._cursor, self._cursor + count))
        self._cursor += count
        return seeds

    def _collect(self, seeds: list[int], *, evaluation: bool = False) -> GroupCollection:
        """One group a seed, from the training runners or, if there are any, the evaluation ones."""
        if not self._weights_are_synced:  # the last iteration was interrupted
            self._sync_weights()
        runners = self.env_runner_group
        if evaluation and self.eval_env_runner_group is not None:
            runners = self.eval_env_runner_group
        collector = GroupCollector(
            runners,
            timeout_s=self.config.rollout_timeout_s,
            restore=lambda: self._bring_back(runners),
            sync_weights=self._sync_weights,
            restore_timeout_s=self.config.env_runner_restore_timeout_s,
            restarts=self.config.restart_failed_env_runners,
        )
        # Evaluation samples the same way whenever it is called, training anew each iteration.
        when = "evaluation" if evaluation else self.iteration
        collection = collector.collect(
            seeds,
            weights_version=self._weights_version,
            stream=(self._run_seed, when),
            evaluation=evaluation,
        )
        self._num_runners_lost += 0 if evaluation else collection.num_runners_lost
        return collection

    def _learn(self, groups: list[Group]) -> None:
        """One update on whole groups: for each learner as many, and about as many tokens."""
        shares = even_shares(
            [sum(len(TokenTrace.of(episode).token_ids) for episode in group) for group in groups],
            max(self.config.num_learners, 1),
        )
        refs = [ray.put([e for i in share for e in groups[i]]) for share in shares]
        # Neither minibatch_size nor num_epochs: the learner gets the whole batch and cuts it.
        results = self.learner_group.update(
            episodes_refs=refs,
            timesteps={
                NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek(
                    (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
                )
            },
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _sync_weights(self) -> None:
        """Sends the learner's weights to every engine and waits until they are loaded."""
        self._weights_are_synced = False
        state = self._current_weights()
        ref = None
        for runners in filter(None, [self.env_runner_group, self.eval_env_runner_group]):
            if runners.local_env_runner is not None:
                runners.local_env_runner.set_state(state)
            if runners.num_remote_env_runners() > 0:
                ref = ref or ray.put(state)  # once for all runners
                self._send_weights(runners, runners.healthy_env_runner_ids(), ref)
        self._weights_are_synced = True

    def _current_weights(self) -> StateDict:
        """The learner's, of which the version is noted."""
        state = self.learner_group.get_state(components=_LEARNER_MODULE, inference_only=True)
        state = state[COMPONENT_LEARNER]
        self._weights_version = int(state[WEIGHTS_SEQ_NO])
        return state

    def _send_weights(
        self, runners: EnvRunnerGroup, worker_ids: list[int], state: ray.ObjectRef
    ) -> None:
        """Not RLlib's sync_weights(): it drops what it cannot send at once, silently."""
        answers = call_runners(
            runners,
            "set_state",
            {worker_id: {"state": state} for worker_id in worker_ids},
            timeout_s=self.config.rollout_timeout_s,
        )
        self._num_runners_lost += len(answers.lost)
        if answers.raised and not answers.values:
            raise RuntimeError(
                f"no env runner took the new weights: {next(iter(answers.raised.values()))}"
            )

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Gives runners that are up again the weights; one that does not take them is replaced.

        RLlib's own would wait `env_runner_restore_timeout_s` for each.

        Returns:
            Their ids.
        """
        restored = env_runner_group.probe_unhealthy_env_runners()
        if restored:
            self._send_weights(env_runner_group, restored, ray.put(self._current_weights()))
        return restored

    def _bring_back(self, runners: EnvRunnerGroup) -> None:
        """What RLlib does before an iteration, in the midst of one."""
        if restored := self.restore_env_runners(runners):
            in_evaluation = runners is self.eval_env_runner_group
            self._make_on_env_runners_recreated_callbacks(
                config=self.evaluation_config if in_evaluation else self.config,
                env_runner_group=runners,
                restored_env_runner_indices=restored,
            )

    @override(Evaluated)
    def _collect_evaluation(self, seeds: Sequence[int]) -> GroupCollection:
        return self._collect(list(seeds), evaluation=True)

    @override(Evaluated)
    def _send_newest_weights(self) -> None:
        if not self._weights_are_synced:
            self._sync_weights()

    @classmethod
    @override(Algorithm)
    def _should_create_evaluation_env_runners(cls, eval_config: AlgorithmConfig) -> bool:
        # Evaluation runs on the training runners' engines: a second vLLM would not fit.
        return eval_config.evaluation_num_env_runners > 0

    @staticmethod
    @override(Algorithm)
    def _get_env_id_and_creator(env_specifier: Any, config: AlgorithmConfig) -> tuple[Any, Any]:
        # RLlib refuses callables that are not classes, and takes an id with a dot for a class
        # path. Runners make environments themselves.
        return env_specifier, partial(make_text_env, env_specifier)

    @override(Algorithm)
    def get_module(self, module_id: ModuleID = DEFAULT_MODULE_ID) -> RLModule | None:
        """The module that is trained; see `GRPOLearnerGroup.get_module`."""
        return self.learner_group.get_module(module_id)

    def get_module_weights(self) -> dict[str, torch.Tensor]:
        """The trained float32 weights under transformers' names, on the CPU.

        With `model_config["lora"]` the adapter's, under the names of peft's files.
        """
        return self.learner_group.get_module_weights()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Saves model and tokenizer as a transformers folder, in the dtype the engines run.

        With `model_config["lora"]` the folder is the adapter's, float32, for peft and vLLM. The
        generation settings are the original's as they were.

        Args:
            folder: Where to; made if it does not exist. Of one that does, files of the same names
                and other weights are replaced, once all are written.

        Returns:
            The folder.

        Raises:
            ValueError: If it is a file.
            OSError: If it cannot be written.
        """
        with staged(folder) as stage:
            self._export.write(stage, self.get_module_weights())
        return Path(folder)

    @override(Algorithm)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(_DRIVER_STATE, components, not_components):
            state[_DRIVER_STATE] = {
                "run_seed": self._run_seed,
                "cursor": self._cursor,
                "recent_batches": self.learner_group.get_recent_batches(),
            }
        return with_own_metrics(state)

    @override(Algorithm)
    def set_state(self, state: StateDict) -> None:
        super().set_state(with_own_metrics(state))
        if _DRIVER_STATE in state:
            self._run_seed = state[_DRIVER_STATE]["run_seed"]
            self._cursor = state[_DRIVER_STATE]["cursor"]
            recent_batches = state[_DRIVER_STATE].get("recent_batches", [])
            self.learner_group.set_recent_batches(recent_batches)
        if COMPONENT_LEARNER_GROUP in state:
            self._sync_weights()

    @override(CheckpointedAlgorithm)
    def save_to_path(self, path: PathLike | None = None, **kwargs: Any) -> str:
        self.learner_group.check()  # says which learner failed, before anything is written
        return super().save_to_path(path, **kwargs)

    @override(CheckpointedAlgorithm)
    def restore_from_path(self, path: PathLike, **kwargs: Any) -> None:
        super().restore_from_path(path, **kwargs)
        # RLlib leaves remote runners on the weights they were born with until the first sync.
        self._sync_weights()

    @override(CheckpointedAlgorithm)
    def _set_module_state(self, state: StateDict) -> None:
        self.learner_group.set_module_state(state)
        self._sync_weights()
