"""GRPO for language models over gymnasium text environments, through group rollouts."""

import logging
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER_GROUP, DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TIMERS,
)
from ray.rllib.utils.typing import ModuleID, StateDict

from sfpo_rllib.algorithms.grpo import resources
from sfpo_rllib.algorithms.grpo.engine_check import check_engine, sample_all
from sfpo_rllib.algorithms.grpo.evaluation import Evaluated
from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig
from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.algorithms.grpo.recording import Recording
from sfpo_rllib.algorithms.grpo.rollouts import Rollouts
from sfpo_rllib.checkpoints import CheckpointedAlgorithm, with_own_metrics
from sfpo_rllib.checkpoints.places import PathLike
from sfpo_rllib.core.balance import even_shares
from sfpo_rllib.env_runners.remote_group import digests_of, ref_of
from sfpo_rllib.env_runners.stream import Collection as GroupCollection
from sfpo_rllib.env_runners.stream import Group
from sfpo_rllib.env_runners.text_envs import make_text_env
from sfpo_rllib.rl_modules.export import PretrainedExport, staged

logger = logging.getLogger(__name__)

_DRIVER_STATE = "rollout_driver"


class GRPO(CheckpointedAlgorithm, Evaluated, Recording):
    """Samples groups, updates once on each batch of them, sends the weights to the engines.

    The driver owns the problem cursor: it hands out consecutive seeds, so that the training
    problems do not depend on the number of runners or on which of them fail.

    Attributes:
        stage: What is under way: "sample", "learn", "sync_weights" or "evaluate"; None in between.
            After an exception in `train()`, where it was raised.
    """

    config: GRPOConfig
    learner_group: GRPOLearnerGroup
    stage: str | None = None
    _expects_interrupt = False

    @classmethod
    @override(Algorithm)
    def get_default_config(cls) -> GRPOConfig:
        return GRPOConfig()

    @override(Algorithm)
    def setup(self, config: AlgorithmConfig) -> None:
        resources.check_cluster_resources(type(self), self.config)
        resources.check_memory(self.config)
        for warning in self.config.stream_settings.warnings(
            gpus_per_learner=self.config.num_gpus_per_learner,
            gpus_per_env_runner=self.config.num_gpus_per_env_runner,
        ):
            logger.warning(warning)
        self._export = PretrainedExport(self.config.model_config)
        run_seed = secrets.randbits(31) if self.config.seed is None else self.config.seed
        super().setup(config)
        self._rollouts = Rollouts(
            self.config,
            runners=self.env_runner_group,
            eval_runners=self.eval_env_runner_group,
            restore=self._bring_back,
            metrics=self.metrics,
            run_seed=run_seed,
        )
        self._rollouts.sync_weights(self.learner_group)
        check_engine(self.config, self.env_runner_group, self.learner_group)
        if self.eval_env_runner_group is not None:
            sample_all(self.evaluation_config, self.eval_env_runner_group)

    @property
    def _cursor(self) -> int:
        """The next problem that will be sampled."""
        return self._rollouts.stream.cursor

    @override(Algorithm)
    def training_step(self) -> None:
        self.learner_group.check()  # before a batch is sampled that none can learn from
        self._before_batch = self._rollouts.stream.position(), self.metrics.get_state()
        start = time.monotonic()
        try:
            with self._timed_stage("sample"):
                groups = self._rollouts.sample_batch(self.learner_group, self.iteration)
            idle = time.monotonic() - start
            self._rollouts.weights_change()
        except BaseException:
            if self._rollouts.stream.untake():  # it comes again, and is counted again
                self.metrics.set_state(self._before_batch[1])
            raise
        with self._timed_stage("learn"):
            shares = self._learn(groups)
        with self._timed_stage("sync_weights"):
            # Runners that sample ahead take the weights when they come to it.
            wait = self.config.max_staleness == 0
            self._rollouts.sync_weights(self.learner_group, wait=wait)
        self._record_training(groups, shares)
        self._log_failures()
        self._log_once(
            (LEARNER_RESULTS, "learner_idle_fraction"), idle / (time.monotonic() - start)
        )

    @contextmanager
    def _timed_stage(self, name: str) -> Iterator[None]:
        self.stage = name
        with self.metrics.log_time((TIMERS, name), reduce="mean", window=1):
            yield
        self.stage = None

    def expect_interrupt(self) -> bool:
        """Says that a KeyboardInterrupt may come: an evaluation ends without results then.

        Returns:
            Whether it may: not in between the stages.
        """
        self._expects_interrupt = self.stage is not None
        return self._expects_interrupt

    def _log_failures(self) -> None:
        lost, restarts = self._rollouts.take_num_lost(), self.learner_group.num_restarts
        self._log_once((ENV_RUNNER_RESULTS, "num_env_runners_lost"), lost)
        self._log_once((LEARNER_RESULTS, "num_learner_restarts_lifetime"), restarts)

    def _log_once(self, key: tuple[str, str], value: float) -> None:
        """Logs a value of this iteration."""
        self.metrics.log_value(key, value, reduce="mean", window=1)

    @property
    def samples_ahead(self) -> bool:
        """Whether runners are at groups of later batches."""
        return not self._rollouts.stream.ledger.is_whole

    def finish_rollouts(self) -> None:
        """Waits until what is sampled ahead is whole, as saving does."""
        self._rollouts.drain()

    def give_up_batch(self) -> bool:
        """Forgets the batch of a `train()` that was interrupted.

        Returns:
            Whether the state is that of the last iteration, and may be saved: the batch was only
            sampled. The learner's update cannot be taken back.
        """
        if self.stage != "sample":
            return False
        go_back, metrics = self._before_batch
        go_back()
        self.metrics.set_state(metrics)
        self.stage = None
        return True

    def _learn(self, groups: list[Group]) -> list[list[int]]:
        """One update on whole groups: for each learner as many, and about as many tokens.

        Returns:
            The indices of the groups that each learner had, in order.
        """
        shares = even_shares(
            [sum(digest.num_tokens for digest in digests_of(group)) for group in groups],
            max(self.config.num_learners, 1),
        )
        # RLlib deals references in equal parts, in order.
        refs = [ref_of(groups[i]) for share in shares for i in share]
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
        return shares

    @override(Algorithm)
    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Sends runners that are up again the weights, and does not wait for them.

        RLlib's own would wait `env_runner_restore_timeout_s` for each.

        Returns:
            Their ids.
        """
        restored = env_runner_group.probe_unhealthy_env_runners()
        self._rollouts.welcome(env_runner_group, restored)
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
        collection = self._rollouts.evaluate(self.learner_group, seeds)
        self._record_evaluation(collection.groups)
        return collection

    @override(Evaluated)
    def _send_newest_weights(self) -> None:
        self._rollouts.ensure_synced(self.learner_group)

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
        return Path(folder).expanduser()

    @override(Algorithm)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        saves_rollouts = self._check_component(_DRIVER_STATE, components, not_components)
        if saves_rollouts:
            self._rollouts.drain()
        state = super().get_state(components, not_components=not_components, **kwargs)
        if saves_rollouts:
            state[_DRIVER_STATE] = {
                **self._rollouts.get_state(),
                "recent_batches": self.learner_group.get_recent_batches(),
            }
        return with_own_metrics(state)

    @override(Algorithm)
    def set_state(self, state: StateDict) -> None:
        super().set_state(with_own_metrics(state))
        if _DRIVER_STATE in state:
            self._rollouts.set_state(state[_DRIVER_STATE])
            recent_batches = state[_DRIVER_STATE].get("recent_batches", [])
            self.learner_group.set_recent_batches(recent_batches)
        if COMPONENT_LEARNER_GROUP in state:
            self._rollouts.sync_weights(self.learner_group)

    @override(CheckpointedAlgorithm)
    def save_to_path(self, path: PathLike | None = None, **kwargs: Any) -> str:
        self.learner_group.check()  # says which learner failed, before anything is written
        self.finish_rollouts()  # also before runners are asked for their states
        return super().save_to_path(path, **kwargs)

    @override(CheckpointedAlgorithm)
    def restore_from_path(self, path: PathLike, **kwargs: Any) -> None:
        super().restore_from_path(path, **kwargs)
        # RLlib leaves remote runners on the weights they were born with until the first sync.
        self._rollouts.sync_weights(self.learner_group)

    @override(CheckpointedAlgorithm)
    def _before_restore(self) -> None:
        self._rollouts.stream.forget()  # what was sampled ahead is not of the checkpoint's weights
        self._trained_in = None

    @override(CheckpointedAlgorithm)
    def _set_module_state(self, state: StateDict) -> None:
        self._before_restore()
        self.learner_group.set_module_state(state)
        self._rollouts.sync_weights(self.learner_group)

    @override(Algorithm)
    def cleanup(self) -> None:
        if hasattr(self, "_rollouts"):
            self._rollouts.stop()
        self._close_recording()
        super().cleanup()
