"""Configuration of GRPO for language models."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import AlgorithmConfigDict, PartialAlgorithmConfigDict

from sfpo_rllib.algorithms.grpo import validation
from sfpo_rllib.algorithms.grpo.carried import carried, unpacked
from sfpo_rllib.algorithms.grpo.environment_problems import raise_if_unmade
from sfpo_rllib.algorithms.grpo.evaluation_settings import evaluation_sampling
from sfpo_rllib.algorithms.grpo.preflight import preflight
from sfpo_rllib.connectors import GroupRelativeAdvantages, TokenBatch
from sfpo_rllib.core.advantages import AdvantageEstimator
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.losses import LossFunction, PolicyLoss, make_loss
from sfpo_rllib.core.lr_schedule import LRSchedule
from sfpo_rllib.core.objective import Objective
from sfpo_rllib.core.optimizers import Optimizer
from sfpo_rllib.core.registry import imported
from sfpo_rllib.core.update_rules import UpdateRule, make_update_rule
from sfpo_rllib.core.updater import Updater
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import RolloutEngine, SamplingSettings
from sfpo_rllib.env_runners.stream import StreamSettings
from sfpo_rllib.env_runners.weights import WeightSettings
from sfpo_rllib.preflight import Preflight
from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.parallelism import DDP, parallelism_class


class GRPOConfig(AlgorithmConfig):
    """Configures GRPO on a language model.

    .. code-block:: python

        from sfpo_rllib import GRPOConfig

        config = (
            GRPOConfig()
            .environment("sfpo_envs:sfpo/Arithmetic-v0", env_config={"num_digits": 2})
            .rl_module(model_config={"model": "path/to/model"})
            .env_runners(num_env_runners=2, sampling={"max_tokens": 16})
            .training(lr=1e-6, train_batch_size_per_learner=128, group_size=8)
        )
        algo = config.build_algo()
        print(algo.train())
    """

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        from sfpo_rllib.algorithms.grpo.grpo import GRPO

        super().__init__(algo_class=algo_class or GRPO)
        # Rollouts.
        self.rollout_engine: str | type[RolloutEngine] = "vllm"
        self.engine_kwargs: dict[str, Any] = {}
        self.sampling: dict[str, Any] = {}
        self.prompt_format = "auto"
        self.chat_template_kwargs: dict[str, Any] = {}
        self.rollout_timeout_s = 1800.0
        self.env_timeout_s: float | None = None
        self.weight_transport = "object_store"
        self.sleep_while_learning = False
        self.num_env_threads = 0
        self.max_staleness = 0
        self.groups_per_job: int | None = None
        self.weight_sync = "between_batches"
        # The update.
        self.update_rule: str | UpdateRule = "single"
        self.entropy_window = 30
        self.entropy_z_threshold: float | None = None
        self.group_size = 8
        self.equal_reward_groups = "keep"
        self.max_resampling_rounds = 3
        self.truncated_replies = "train"
        # The objective. None: the loss's own default.
        self.loss: str | PolicyLoss | LossFunction = "grpo"
        self.loss_aggregation: str | None = None
        self.advantages: AdvantageEstimator | None = None
        self.clip_param: float | None = None
        self.clip_param_high: float | None = None
        self.kl_coeff = 0.0
        self.kl_estimator = "k3"
        self.entropy_coeff = 0.0
        self.engine_correction: str | None = "token_truncate"
        self.engine_ratio_cap = 2.0
        self.engine_ratio_floor = 0.5
        self.max_engine_logp_diff: float | None = 0.5
        self.max_skipped_steps = 10
        self.max_tokens_per_micro_batch = 16_384
        self.snapshot_device: str | None = None
        self.optimizer: Optimizer = "adamw"
        self.optimizer_kwargs: dict[str, Any] = {}
        self.weight_decay = 0.01
        self.adam_betas = (0.9, 0.999)
        self.lr_schedule = "constant"
        self.lr_warmup_batches = 0
        self.lr_total_batches: int | None = None
        self.lr_min_ratio = 0.0
        self.parallelism = "ddp"
        self.restart_failed_learners = False
        # RLlib's own settings, where its defaults do not fit.
        self.torch_skip_nan_gradients = True  # no second look at gradients: the learner has one
        self.lr = 1e-6
        self.grad_clip = 1.0
        self.grad_clip_by = "global_norm"
        self.num_epochs = 1
        self.minibatch_size: int | None = None
        self.minibatches_per_pass: int | None = None
        self.train_batch_size_per_learner = 1024
        self.env_runner_cls = GroupEnvRunner
        self.create_local_env_runner = False  # the driver would start an engine of its own
        self.sample_timeout_s = None  # RLlib would drop late samples; we have our own deadline
        self.delay_between_env_runner_restarts_s = 0.0  # a runner that raised would wait as long
        self.merge_env_runner_states = False  # there are no connector states in the runners
        self.broadcast_env_runner_states = False
        self.evaluation_duration = 512

    @override(AlgorithmConfig)
    def env_runners(
        self,
        *,
        rollout_engine: str | type[RolloutEngine] = NotProvided,
        engine_kwargs: dict[str, Any] = NotProvided,
        sampling: dict[str, Any] = NotProvided,
        prompt_format: str = NotProvided,
        chat_template_kwargs: dict[str, Any] = NotProvided,
        rollout_timeout_s: float = NotProvided,
        env_timeout_s: float | None = NotProvided,
        weight_transport: str = NotProvided,
        sleep_while_learning: bool = NotProvided,
        num_env_threads: int = NotProvided,
        max_staleness: int = NotProvided,
        groups_per_job: int | None = NotProvided,
        weight_sync: str = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the rollout settings.

        Args:
            rollout_engine: "vllm", "transformers" (no vLLM needed, for small work), or a subclass
                of `RolloutEngine`.
            engine_kwargs: Of the engine: for vllm those of `vllm.LLM`, e.g. `max_model_len`,
                `kv_cache_memory_bytes`, `gpu_memory_utilization`, `tensor_parallel_size`.
            sampling: `temperature`, `max_tokens`, `stop`; in evaluation also `top_p` and `top_k`;
                see `SamplingSettings`. Keys that are not given keep their value.
            prompt_format: "chat": a string observation is one user turn of the tokenizer's chat
                template; "raw": its tokens as they are; "auto": chat if there is a template.
            chat_template_kwargs: Variables of the template, e.g. `{"enable_thinking": False}`.
            rollout_timeout_s: Groups not finished after so many seconds are given up and asked
                for again; a runner that does not answer is replaced. A problem for which that goes
                on is dropped.
            env_timeout_s: An environment whose reset or step takes longer is left behind and
                replaced, and its group dropped. Environments then run in threads, where code that
                uses signals, such as `signal.alarm`, does not work. None: they may take as long as
                they like, in the runner's main thread.
            weight_transport: How weights get to the engines: by the "object_store"; by "nccl", to
                engines on GPUs of their own; or by "ipc", to engines that share the learners'.
            sleep_while_learning: Engines give their GPU memory to the learners meanwhile.
            num_env_threads: So many environments of a runner are reset and stepped at once, each
                in a thread of its own, while the engine goes on. 0: one after the other, between
                the engine's steps. What is sampled is the same.
            max_staleness: S: batch t is sampled under the weights after update max(0, t - S), while
                the learner is at the batches before it. 0: sampling and learning take turns.
            groups_per_job: Groups that a runner is asked for at once. None: a batch with one
                runner; with several, so many that each gets two jobs of a batch.
            weight_sync: "between_batches": a runner takes new weights before a job that names
                them. "in_flight": between any two steps of its engine, and what it is sampling
                goes on under them; what is sampled then depends on timing.
            kwargs: Of `AlgorithmConfig.env_runners()`.

        Returns:
            This updated config.
        """
        super().env_runners(**kwargs)
        if rollout_engine is not NotProvided:
            self.rollout_engine = rollout_engine
        if engine_kwargs is not NotProvided:
            self.engine_kwargs = dict(engine_kwargs)
        if sampling is not NotProvided:
            self.sampling = {**self.sampling, **sampling}
        if prompt_format is not NotProvided:
            self.prompt_format = prompt_format
        if chat_template_kwargs is not NotProvided:
            self.chat_template_kwargs = chat_template_kwargs
        if rollout_timeout_s is not NotProvided:
            self.rollout_timeout_s = rollout_timeout_s
        if env_timeout_s is not NotProvided:
            self.env_timeout_s = env_timeout_s
        if weight_transport is not NotProvided:
            self.weight_transport = weight_transport
        if sleep_while_learning is not NotProvided:
            self.sleep_while_learning = sleep_while_learning
        if num_env_threads is not NotProvided:
            self.num_env_threads = num_env_threads
        if max_staleness is not NotProvided:
            self.max_staleness = max_staleness
        if groups_per_job is not NotProvided:
            self.groups_per_job = groups_per_job
        if weight_sync is not NotProvided:
            self.weight_sync = weight_sync
        return self

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        update_rule: str | UpdateRule = NotProvided,
        entropy_window: int = NotProvided,
        entropy_z_threshold: float | None = NotProvided,
        group_size: int = NotProvided,
        minibatch_size: int | None = NotProvided,
        minibatches_per_pass: int | None = NotProvided,
        equal_reward_groups: str = NotProvided,
        max_resampling_rounds: int = NotProvided,
        truncated_replies: str = NotProvided,
        loss: str | PolicyLoss | LossFunction = NotProvided,
        loss_aggregation: str | None = NotProvided,
        advantages: AdvantageEstimator | None = NotProvided,
        clip_param: float | None = NotProvided,
        clip_param_high: float | None = NotProvided,
        kl_coeff: float = NotProvided,
        kl_estimator: str = NotProvided,
        entropy_coeff: float = NotProvided,
        engine_correction: str | None = NotProvided,
        engine_ratio_cap: float = NotProvided,
        engine_ratio_floor: float = NotProvided,
        max_engine_logp_diff: float | None = NotProvided,
        max_skipped_steps: int = NotProvided,
        max_tokens_per_micro_batch: int = NotProvided,
        snapshot_device: str | None = NotProvided,
        optimizer: Optimizer = NotProvided,
        optimizer_kwargs: dict[str, Any] = NotProvided,
        weight_decay: float = NotProvided,
        adam_betas: tuple[float, float] = NotProvided,
        lr_schedule: str = NotProvided,
        lr_warmup_batches: int = NotProvided,
        lr_total_batches: int | None = NotProvided,
        lr_min_ratio: float = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings. `train_batch_size_per_learner` counts completions.

        Args:
            update_rule: What is done with a batch: "single" (one pass), "multi_epoch",
                "slow_fast" (SFPO), "lookahead", "extrapolated", "slow_fast_replay", each with its
                defaults, or an instance of one of these or of an own `core.UpdateRule`.
            entropy_window: w, the number of entropies the rule's trigger looks at.
            entropy_z_threshold: The z-score from which on the rule is switched off for good and
                every batch gets one pass. None: never. On flat, noisy entropy w = 30 and 1.0 fire
                within about 60 iterations.
            group_size: Completions of one problem.
            minibatch_size: Completions of one optimizer step, per learner. None: the whole
                rollout batch, or what `minibatches_per_pass` says.
            minibatches_per_pass: The same as a number of optimizer steps a pass. The one of the
                two that was given last counts.
            equal_reward_groups: Groups whose rewards are all equal carry no gradient. "keep"
                trains on them all the same (they count in the loss's mean), "drop" does not count
                them, "resample" replaces them by other problems.
            max_resampling_rounds: With "resample", how often; what is then still equal is kept.
            truncated_replies: "train" on replies that were cut, or "mask" them: their tokens do not
                count, their rewards still do in the group's baseline (DAPO's overlong filtering).
            loss: "grpo", "dr_grpo", "dapo", "gspo", "cispo", "reinforce", a `core.PolicyLoss`, or
                a function of `core.LossInputs` and `core.ClipRange`. It brings defaults of the
                four settings that follow, which None leaves as they are.
            loss_aggregation: "token", "sequence" or "constant"; see `core.token_weights`.
            advantages: "group" (over the group's mean, by its standard deviation), "group_mean",
                "rloo", "batch" (by the whole batch's deviation), or a function of the rewards of
                the whole batch, shape (groups, group_size).
            clip_param: Lower clip range of the ratio, and upper if there is no other.
            clip_param_high: Upper clip range.
            kl_coeff: Weight of the KL to the model that training began with. 0: no copy of it is
                held.
            kl_estimator: "k1", "k2" or "k3"; see `core.kl_estimate`.
            entropy_coeff: Weight of the entropy bonus.
            engine_correction: What is done about the learner's log-probs not being the engine's
                at equal weights: each token's loss is weighted by their ratio. "token_truncate"
                (at most `engine_ratio_cap`), "token_mask" (dropped outside of floor and cap),
                "sequence_truncate", "sequence_mask" (by the geometric mean of a sequence's
                ratios), or None.
            engine_ratio_cap: The upper bound.
            engine_ratio_floor: The lower bound, for the masks.
            max_engine_logp_diff: Batches in which the log-probs of engine and learner differ by
                more, nats a token in the mean, are refused and counted. None: none is.
            max_skipped_steps: Optimizer steps whose gradient is not finite are skipped and
                counted. More than so many in a row end the training.
            max_tokens_per_micro_batch: Tokens of one forward pass, padding included unless
                `model_config["packing"]` is on; bounds the memory.
            snapshot_device: Where the update rule's copies of the weights are held: None, beside
                the weights, or "cpu", in host memory.
            optimizer: "adamw"; "adamw_8bit" or "paged_adamw_8bit" (bitsandbytes); "muon" (hidden
                matrices; AdamW for the rest); "sgd"; or a class or function that makes one, or a
                `core.OptimizerSpec`.
            optimizer_kwargs: More of the optimizer's own settings, e.g. `{"momentum": 0.9}`.
            weight_decay: On all parameters, decoupled; with SGD an L2 penalty.
            adam_betas: Of AdamW in all its forms.
            lr_schedule: "constant", or "linear" or "cosine" down to `lr_min_ratio`. Advances once
                a rollout batch. Instead, `lr` may be RLlib's `[[timestep, value], ...]`.
            lr_warmup_batches: So many batches are trained below `lr`, rising in equal steps.
            lr_total_batches: The batch from which on the rate is at its lowest.
            lr_min_ratio: The lowest rate as a share of `lr`.
            kwargs: Of `AlgorithmConfig.training()`, e.g. `lr` and `grad_clip`.

        Returns:
            This updated config.
        """
        super().training(**kwargs)
        if minibatch_size is not NotProvided and minibatches_per_pass is NotProvided:
            minibatches_per_pass = None
        elif minibatches_per_pass is not NotProvided and minibatch_size is NotProvided:
            minibatch_size = None
        given = {
            "update_rule": update_rule,
            "entropy_window": entropy_window,
            "entropy_z_threshold": entropy_z_threshold,
            "minibatch_size": minibatch_size,
            "minibatches_per_pass": minibatches_per_pass,
            "group_size": group_size,
            "equal_reward_groups": equal_reward_groups,
            "max_resampling_rounds": max_resampling_rounds,
            "truncated_replies": truncated_replies,
            "loss": loss,
            "loss_aggregation": loss_aggregation,
            "advantages": advantages,
            "clip_param": clip_param,
            "clip_param_high": clip_param_high,
            "kl_coeff": kl_coeff,
            "kl_estimator": kl_estimator,
            "entropy_coeff": entropy_coeff,
            "engine_correction": engine_correction,
            "engine_ratio_cap": engine_ratio_cap,
            "engine_ratio_floor": engine_ratio_floor,
            "max_engine_logp_diff": max_engine_logp_diff,
            "max_skipped_steps": max_skipped_steps,
            "max_tokens_per_micro_batch": max_tokens_per_micro_batch,
            "snapshot_device": snapshot_device,
            "optimizer": optimizer,
            "optimizer_kwargs": optimizer_kwargs,
            "weight_decay": weight_decay,
            "adam_betas": adam_betas,
            "lr_schedule": lr_schedule,
            "lr_warmup_batches": lr_warmup_batches,
            "lr_total_batches": lr_total_batches,
            "lr_min_ratio": lr_min_ratio,
        }
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    @override(AlgorithmConfig)
    def learners(self, *, parallelism: str = NotProvided, **kwargs: Any) -> Self:
        """Sets the learners.

        Args:
            parallelism: "ddp": every learner holds the model; "fsdp": all of them share one, by
                FSDP2, for models that do not fit a device.
            kwargs: Of `AlgorithmConfig.learners()`.

        Returns:
            This updated config.
        """
        super().learners(**kwargs)
        if parallelism is not NotProvided:
            self.parallelism = parallelism
        return self

    @override(AlgorithmConfig)
    def to_dict(self) -> AlgorithmConfigDict:
        return carried(super().to_dict())

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: PartialAlgorithmConfigDict) -> Self:
        # RLlib also passes whole configs.
        return super().update_from_dict(unpacked(dict(config_dict.items())))

    @override(AlgorithmConfig)
    def fault_tolerance(
        self, *, restart_failed_learners: bool = NotProvided, **kwargs: Any
    ) -> Self:
        """Sets what is done about failures.

        Args:
            restart_failed_learners: When a learner dies, or raises in an update, all learners are
                started again and go on from the last update. Their state, 12 bytes a trained
                weight with AdamW, is copied to Ray's object store after every update.
            kwargs: Of `AlgorithmConfig.fault_tolerance()`.

        Returns:
            This updated config.
        """
        super().fault_tolerance(**kwargs)
        if restart_failed_learners is not NotProvided:
            self.restart_failed_learners = restart_failed_learners
        return self

    @override(AlgorithmConfig)
    def get_evaluation_config_object(self) -> AlgorithmConfig | None:
        evaluation = super().get_evaluation_config_object()
        if evaluation is not None:  # this one is training's
            evaluation.sampling = evaluation_sampling(self, evaluation)
        return evaluation

    @property
    def sampling_settings(self) -> SamplingSettings:
        """`sampling` with its defaults."""
        return SamplingSettings(**self.sampling)

    @property
    def weight_settings(self) -> WeightSettings:
        """How weights get to the engines, and what these do meanwhile."""
        return WeightSettings(
            weight_transport=self.weight_transport,
            sleep_while_learning=self.sleep_while_learning,
            rollout_engine=self.rollout_engine,
            num_env_runners=self.num_env_runners,
            evaluation_num_env_runners=self.evaluation_num_env_runners,
            num_gpus_per_env_runner=self.num_gpus_per_env_runner,
            num_gpus_per_learner=self.num_gpus_per_learner,
            tensor_parallel_size=self.engine_kwargs.get("tensor_parallel_size", 1),
            max_staleness=self.max_staleness,
            lora=self.model_config.get("lora") is not None,
        )

    @property
    def stream_settings(self) -> StreamSettings:
        """How far sampling may be ahead of learning."""
        return StreamSettings(
            self.max_staleness, self.groups_per_job, self.num_env_runners, self.weight_sync
        )

    @override(AlgorithmConfig)
    def validate(self) -> None:
        """Collects every problem, cheap ones first, and raises one ValueError that lists all."""
        validation.raise_problems(self, [*self.cheap_problems(), *validation.costly_problems(self)])
        super().validate()

    def cheap_problems(self) -> Iterator[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        yield from validation.cheap_problems(self)

    def make_update_rule(self) -> UpdateRule:
        """The rule that `update_rule` names.

        Raises:
            ValueError: If there is none of that name.
        """
        return make_update_rule(self.update_rule)

    def update_rule_problems(self) -> Iterator[str]:
        """What is wrong with the rule and its settings."""
        try:
            self.make_update_rule()
        except ValueError as error:
            yield str(error)

    def make_lr_schedule(self) -> LRSchedule | None:
        """The learning rate of each rollout batch; None if `lr` is RLlib's schedule of timesteps.

        Raises:
            ValueError: If a setting is out of range, or both kinds of schedule are given.
        """
        settings: dict[str, Any] = {
            "lr_schedule": self.lr_schedule,
            "lr_warmup_batches": self.lr_warmup_batches,
            "lr_total_batches": self.lr_total_batches,
            "lr_min_ratio": self.lr_min_ratio,
        }
        if not isinstance(self.lr, list | tuple):
            return LRSchedule(self.lr, **settings)
        if self.lr_schedule != "constant" or self.lr_warmup_batches:
            raise ValueError(
                f"lr={self.lr!r}: must be a number with lr_schedule={self.lr_schedule!r} and "
                f"lr_warmup_batches={self.lr_warmup_batches!r}; either a schedule of timesteps or "
                "one of batches"
            )
        return None

    def make_updater(self) -> Updater[Any, Any]:
        """The rule at work, with its trigger: one for each learner."""
        trigger = None
        if self.entropy_z_threshold is not None:
            trigger = EntropyTrigger(self.entropy_window, self.entropy_z_threshold)
        # A learner in this process must not share a rule's state with the config.
        rule = copy.deepcopy(self.make_update_rule())
        return Updater(rule, trigger, snapshot_device=self.snapshot_device)

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
    def policy_loss(self) -> PolicyLoss:
        """The loss that `loss` names, with what was set in place of its defaults.

        Raises:
            ValueError: If there is none of that name.
        """
        given: dict[str, Any] = {
            "aggregation": self.loss_aggregation,
            "advantages": self.advantages,
            "clip_param": self.clip_param,
            "clip_param_high": self.clip_param_high,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(make_loss(self.loss), **given)

    def make_objective(self) -> Objective:
        """What a learner descends."""
        return Objective(
            loss=self.policy_loss,
            kl_coeff=self.kl_coeff,
            kl_estimator=self.kl_estimator,
            entropy_coeff=self.entropy_coeff,
            engine_correction=self.engine_correction,
            engine_ratio_cap=self.engine_ratio_cap,
            engine_ratio_floor=self.engine_ratio_floor,
        )

    @property
    def effective_minibatch_size(self) -> int:
        """Completions of one optimizer step, per learner."""
        if self.minibatch_size is not None:
            return self.minibatch_size
        return self.train_batch_size_per_learner // (self.minibatches_per_pass or 1)

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

    @property
    @override(AlgorithmConfig)
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {
            **super()._model_config_auto_includes,
            # Not of sampling_settings, which unknown keys, validate()'s to report, would break.
            "temperature": self.sampling.get("temperature", SamplingSettings.temperature),
            "holds_reference": bool(self.kl_coeff),
        }
