"""What is built from a config: the update and its parts, modules, learners, connectors.

And how much memory that takes, which is estimated before any of it is built.
"""

import copy
from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override

from sfpo_rllib.algorithms.grpo.environment_problems import raise_if_unmade
from sfpo_rllib.algorithms.grpo.evaluation_settings import (
    evaluation_group_size,
    evaluation_sampling,
)
from sfpo_rllib.algorithms.grpo.merging_config import MergingConfig
from sfpo_rllib.algorithms.grpo.preflight import preflight
from sfpo_rllib.algorithms.grpo.settings import BatchSettings
from sfpo_rllib.connectors import GroupRelativeAdvantages, TokenBatch
from sfpo_rllib.core.checks import of_attributes, problems_of, raise_problems
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.losses import PolicyLoss, make_loss
from sfpo_rllib.core.lr_schedule import LRSchedule, timestep_schedule_problems
from sfpo_rllib.core.objective import Objective
from sfpo_rllib.core.registry import imported
from sfpo_rllib.core.update_rules import UpdateRule, make_update_rule
from sfpo_rllib.core.updater import Updater
from sfpo_rllib.env_runners.engines import SamplingSettings
from sfpo_rllib.env_runners.stream import StreamSettings
from sfpo_rllib.env_runners.weights import WeightSettings
from sfpo_rllib.preflight import Preflight
from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.parallelism import DDP, parallelism_class


class BuildingConfig(MergingConfig):
    """Builds what a language model is trained with, by the settings of `GRPOConfig`."""

    @property
    def sampling_settings(self) -> SamplingSettings:
        """`sampling` with its defaults."""
        return SamplingSettings(**self.sampling)

    @property
    def weight_settings(self) -> WeightSettings:
        """How weights get to the engines, and what these do meanwhile."""
        return of_attributes(
            WeightSettings,
            self,
            tensor_parallel_size=self.engine_kwargs.get("tensor_parallel_size", 1),
            lora=self.model_config.get("lora") is not None,
        )

    @property
    def stream_settings(self) -> StreamSettings:
        """How far sampling may be ahead of learning."""
        return of_attributes(StreamSettings, self)

    @override(AlgorithmConfig)
    def get_evaluation_config_object(self) -> AlgorithmConfig | None:
        evaluation = super().get_evaluation_config_object()
        if evaluation is not None:  # this one is training's
            evaluation.sampling = evaluation_sampling(self, evaluation)
            evaluation.group_size = evaluation_group_size(self, evaluation)
        return evaluation

    def make_update_rule(self) -> UpdateRule:
        """The rule that `update_rule` names.

        Raises:
            ValueError: If there is none of that name.
        """
        return make_update_rule(self.update_rule)

    def update_rule_problems(self) -> list[str]:
        """What is wrong with the rule and its settings."""
        return problems_of(self.make_update_rule)

    def make_lr_schedule(self) -> LRSchedule | None:
        """The learning rate of each rollout batch; None if `lr` is RLlib's schedule of timesteps.

        Raises:
            ValueError: If a setting is out of range, or both kinds of schedule are given.
        """
        by_timesteps = isinstance(self.lr, list | tuple)
        schedule = of_attributes(LRSchedule, self, lr=0.0 if by_timesteps else self.lr)
        if by_timesteps:
            raise_problems(timestep_schedule_problems(self.lr, schedule))
        return None if by_timesteps else schedule

    def make_updater(self) -> Updater[Any, Any]:
        """The rule at work, with its trigger: one for each learner."""
        trigger = None
        if self.entropy_z_threshold is not None:
            trigger = EntropyTrigger(
                self.entropy_window,
                self.entropy_z_threshold,
                warmup=self.entropy_warmup,
                patience=self.entropy_patience,
            )
        # A learner in this process must not share a rule's state with the config.
        rule = copy.deepcopy(self.make_update_rule())
        return Updater(rule, trigger, snapshot_device=self.snapshot_device)

    @property
    def policy_loss(self) -> PolicyLoss:
        """The loss that `loss` names, with what was set in place of its defaults.

        Raises:
            ValueError: If there is none of that name.
        """
        return make_loss(
            self.loss,
            aggregation=self.loss_aggregation,
            advantages=self.advantages,
            clip_param=self.clip_param,
            clip_param_high=self.clip_param_high,
            clip_param_dual=self.clip_param_dual,
        )

    def make_objective(self) -> Objective:
        """What a learner descends."""
        return of_attributes(Objective, self, loss=self.policy_loss)

    @property
    def effective_minibatch_size(self) -> int:
        """Completions of one optimizer step, per learner, where the rule does not say otherwise."""
        return of_attributes(BatchSettings, self).effective_minibatch_size

    @override(AlgorithmConfig)
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=CausalLMModule)

    @override(AlgorithmConfig)
    def get_default_learner_class(self) -> type[Learner] | str:
        try:
            return imported(parallelism_class(self.parallelism).learner)
        except ValueError:  # validate() says it
            return imported(DDP.learner)

    @override(AlgorithmConfig)
    def build_learner_group(
        self,
        *,
        env: Any = None,
        spaces: Any = None,
        rl_module_spec: Any = None,
        placement_group: Any = None,
    ) -> LearnerGroup:
        return imported(parallelism_class(self.parallelism).learner_group)(
            config=self.copy(),
            module_spec=rl_module_spec or self.get_multi_rl_module_spec(env=env, spaces=spaces),
            placement_group=placement_group,
        )

    @override(AlgorithmConfig)
    def build_env_to_module_connector(
        self, env: Any = None, spaces: Any = None, device: Any = None
    ) -> Any:
        # Runners have none; this is where RLlib comes by, before learners start, with what the
        # remote ones say of their environments.
        raise_if_unmade(self.env, spaces)
        return super().build_env_to_module_connector(env, spaces, device)

    @override(AlgorithmConfig)
    def build_learner_connector(
        self, input_observation_space: Any, input_action_space: Any, device: Any = None
    ) -> LearnerConnectorPipeline:
        return LearnerConnectorPipeline(
            connectors=[
                TokenBatch(
                    group_size=self.group_size,
                    truncated_replies=self.truncated_replies,
                    count_turns=self.policy_loss.aggregation == "constant",
                    tell_versions=self.max_staleness > 0,
                    device=device,
                ),
                GroupRelativeAdvantages(
                    group_size=self.group_size,
                    advantages=self.policy_loss.advantages,
                    drop_equal=self.equal_reward_groups == "drop",
                    num_learners=max(self.num_learners, 1),
                    device=device,
                ),
            ],
            input_observation_space=input_observation_space,
            input_action_space=input_action_space,
        )

    def preflight(
        self, *, parallelism: str | None = None, device_memory_gb: float | None = None
    ) -> Preflight:
        """Estimates the memory of a learner and of an engine; `print()` shows a table.

        Args:
            parallelism: Instead of the config's.
            device_memory_gb: Of each GPU, in 10^9 bytes. None: of the first GPU visible here.

        Returns:
            The estimate; its `problems()` say what does not fit, and what would.
        """
        return preflight(
            self, parallelism=parallelism or self.parallelism, device_memory_gb=device_memory_gb
        )

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        # Not of sampling_settings: what is no dict, or has unknown keys, is validate()'s to report.
        sampling = self.sampling if isinstance(self.sampling, Mapping) else {}
        return {
            **super()._model_config_auto_includes,
            "temperature": sampling.get("temperature", SamplingSettings.temperature),
            "holds_reference": bool(self.kl_coeff),
        }
