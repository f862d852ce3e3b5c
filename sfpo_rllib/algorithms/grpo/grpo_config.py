"""Configuration of GRPO for language models."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override

from sfpo_rllib.algorithms.grpo import validation
from sfpo_rllib.algorithms.grpo.building_config import BuildingConfig
from sfpo_rllib.algorithms.grpo.evaluation_settings import evaluation_problems, of_evaluation
from sfpo_rllib.algorithms.grpo.rllib_settings import (
    bypassed_problems,
    rllib_problems,
    shape_problems,
)
from sfpo_rllib.algorithms.grpo.settings import BatchSettings, RolloutSettings, UpdateSettings
from sfpo_rllib.core.advantages import AdvantageEstimator
from sfpo_rllib.core.checks import BOOL, of_attributes, problems_of, raise_problems, value_problems
from sfpo_rllib.core.entropy_trigger import trigger_problems
from sfpo_rllib.core.losses import LOSSES, LossFunction, PolicyLoss
from sfpo_rllib.core.lr_schedule import LRSchedule
from sfpo_rllib.core.objective import Objective
from sfpo_rllib.core.optimizers import Optimizer
from sfpo_rllib.core.update_rules import UpdateRule
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import RolloutEngine, engine_class, gpu_share
from sfpo_rllib.env_runners.engines.sampling import sampling_problems
from sfpo_rllib.env_runners.stream import Curriculum
from sfpo_rllib.recordings import ReportingSettings
from sfpo_rllib.rl_modules.model_settings import model_problems
from sfpo_rllib.rl_modules.parallelism import parallelism_class


class GRPOConfig(BuildingConfig):
    """Configures GRPO on a language model.

    ```python
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
    ```
    """

    merged = {"sampling": None, "engine_kwargs": "rollout_engine"}  # noqa: RUF012 (never changed)
    one_of_two = ("minibatch_size", "minibatches_per_pass")

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        from sfpo_rllib.algorithms.grpo.grpo import GRPO

        super().__init__(algo_class=algo_class or GRPO)
        for settings in (
            RolloutSettings(),
            BatchSettings(),
            UpdateSettings(),
            LRSchedule(lr=1e-6),
            Objective(),
            ReportingSettings(),
        ):
            for name, value in vars(settings).items():
                setattr(self, name, value)
        self.sampling: dict[str, Any] = {}
        self.engine_kwargs: dict[str, Any] = {}
        self.update_rule: str | UpdateRule = "single"
        self.entropy_window = 30
        self.entropy_z_threshold: float | None = None
        self.entropy_warmup = 0
        self.entropy_patience = 1
        self.loss: str | PolicyLoss | LossFunction = "grpo"
        self.loss_aggregation: str | None = None  # the loss's own default, as in the next four
        self.advantages: AdvantageEstimator | None = None
        self.clip_param: float | None = None
        self.clip_param_high: float | None = None
        self.clip_param_dual: float | None = None
        self.parallelism = "ddp"
        self.restart_failed_learners = False
        # RLlib's own settings, where its defaults do not fit.
        self.torch_skip_nan_gradients = True  # no second look at gradients: the learner has one
        self.grad_clip_by = "global_norm"
        self.num_epochs = 1
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
                `kv_cache_memory_bytes`, `gpu_memory_utilization`, `tensor_parallel_size`. Keys
                that are not given keep their value, unless another engine is given with them.
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
            weight_sync: When a runner takes new weights: "between_batches", or "in_flight", between
                any two steps of its engine; what is sampled then depends on timing.
            kwargs: Of `AlgorithmConfig.env_runners()`.
        """
        super().env_runners(**kwargs)
        return self.set_given(locals())

    @override(AlgorithmConfig)
    def training(
        self,
        *,
        update_rule: str | UpdateRule = NotProvided,
        entropy_window: int = NotProvided,
        entropy_z_threshold: float | None = NotProvided,
        entropy_warmup: int = NotProvided,
        entropy_patience: int = NotProvided,
        group_size: int = NotProvided,
        minibatch_size: int | None = NotProvided,
        minibatches_per_pass: int | None = NotProvided,
        equal_reward_groups: str = NotProvided,
        max_resampling_rounds: int = NotProvided,
        curriculum: Curriculum | None = NotProvided,
        truncated_replies: str = NotProvided,
        loss: str | PolicyLoss | LossFunction = NotProvided,
        loss_aggregation: str | None = NotProvided,
        advantages: AdvantageEstimator | None = NotProvided,
        clip_param: float | None = NotProvided,
        clip_param_high: float | None = NotProvided,
        clip_param_dual: float | None = NotProvided,
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
        lr_warmup_steps: int = NotProvided,
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
            entropy_warmup: The trigger cannot fire in that many first batches.
            entropy_patience: That many z-scores in a row must reach the threshold.
            group_size: Completions of one problem.
            minibatch_size: Completions of one optimizer step, per learner. None: the whole
                rollout batch, or what `minibatches_per_pass` says.
            minibatches_per_pass: The same as a number of optimizer steps a pass. The one of the
                two that was given last counts.
            equal_reward_groups: Groups whose rewards are all equal carry no gradient. "keep"
                trains on them all the same (they count in the loss's mean), "drop" does not count
                them, "resample" replaces them by other problems.
            max_resampling_rounds: With "resample", how often; what is then still equal is kept.
            curriculum: Skips problems whose last groups had equal rewards before they are sampled;
                see `Curriculum`. None: none is skipped.
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
            clip_param_dual: Upper bound of the ratio where an advantage is negative (dual clip).
            kl_coeff: Weight of the KL to the model that training began with. 0: no copy of it is
                held.
            kl_estimator: "k1", "k2" or "k3"; see `core.kl_estimate`.
            entropy_coeff: Weight of the entropy bonus.
            engine_correction: What is done about the learner's log-probs (old_logp) not being the
                engine's (rollout log-probs) at equal weights, the rollout correction: each token's
                loss is weighted by their ratio. "token_truncate" (TIS: at most `engine_ratio_cap`),
                "token_mask" (dropped outside of floor and cap), "sequence_truncate",
                "sequence_mask" (by the geometric mean of a sequence's ratios), or None.
            engine_ratio_cap: The upper bound.
            engine_ratio_floor: The lower bound, for the masks.
            max_engine_logp_diff: Batches in which the log-probs of engine and learner differ by
                more, nats a token in the mean, are refused and counted. None: none is.
            max_skipped_steps: Optimizer steps whose gradient is not finite are skipped and
                counted. More than this many in a row end the training.
            max_tokens_per_micro_batch: Tokens of one forward pass, padding included unless
                `model_config["packing"]` is on; bounds the memory.
            snapshot_device: Where the update rule's copies of the weights (the slow weights) are
                held: None, beside the weights, or "cpu", in host memory.
            optimizer: "adamw"; "adamw_8bit" or "paged_adamw_8bit" (bitsandbytes); "muon" (hidden
                matrices; AdamW for the rest); "sgd"; or a class or function that makes one, or a
                `core.OptimizerSpec`.
            optimizer_kwargs: More of the optimizer's own settings, e.g. `{"momentum": 0.9}`.
            weight_decay: On all parameters, decoupled; with SGD an L2 penalty.
            adam_betas: Of AdamW in all its forms.
            lr_schedule: "constant", or "linear" or "cosine" down to `lr_min_ratio`. Advances once
                a rollout batch. Instead, `lr` may be RLlib's `[[timestep, value], ...]`.
            lr_warmup_batches: So many batches are trained below `lr`, rising in equal steps.
            lr_warmup_steps: Instead, so many optimizer steps are, those of all passes.
            lr_total_batches: The batch from which on the rate is at its lowest.
            lr_min_ratio: The lowest rate as a share of `lr`.
            kwargs: Of `AlgorithmConfig.training()`, e.g. `lr` and `grad_clip`.
        """
        super().training(**kwargs)
        return self.set_given(locals())

    @override(AlgorithmConfig)
    def learners(self, *, parallelism: str = NotProvided, **kwargs: Any) -> Self:
        """Sets the learners.

        Args:
            parallelism: "ddp": every learner holds the model; "fsdp": all of them share one, by
                FSDP2, for models that do not fit a device.
            kwargs: Of `AlgorithmConfig.learners()`.
        """
        super().learners(**kwargs)
        return self.set_given(locals())

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
        """
        super().fault_tolerance(**kwargs)
        return self.set_given(locals())

    @override(AlgorithmConfig)
    def reporting(
        self,
        *,
        record_rollouts: int = NotProvided,
        record_rollouts_mb: float = NotProvided,
        show_replies_every: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets what of the rollouts is kept and shown; training is the same with and without.

        Args:
            record_rollouts: Groups of each batch, and of each evaluation, that are kept as Parquet
                in the run's folder, the first ones in the order of their problems; see
                `sfpo-rllib rollouts`. 0: none.
            record_rollouts_mb: When the files are larger than so many 10^6 bytes together, those of
                the oldest iterations are deleted.
            show_replies_every: Every so many iterations two replies are printed with their rewards,
                and written for TensorBoard. 0: never.
            kwargs: Of `AlgorithmConfig.reporting()`.
        """
        super().reporting(**kwargs)
        return self.set_given(locals())

    @override(AlgorithmConfig)
    def validate(self) -> None:
        """Collects every problem, cheap ones first, and raises one ValueError that lists all."""
        problems = shape_problems(vars(self)) or [*self.cheap_problems(), *self.costly_problems()]
        own = of_evaluation(problems) if self.in_evaluation else problems
        raise_problems(own, of=type(self).__name__)
        super().validate()

    def cheap_problems(self) -> Iterator[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        defaults = vars(type(self)())
        yield from validation.unknown_problems(vars(self), defaults, type(self))
        # A whole config's evaluation has what training adds.
        added = {} if self.in_evaluation else self._model_config_auto_includes
        yield from model_problems(self.model_config, added)
        batch = {"train_batch_size_per_learner": self._train_batch_size_per_learner}  # may be None
        batches = of_attributes(BatchSettings, self, **batch)
        of_batches = batches.problems(evaluation=self.in_evaluation)
        of_rule = self.update_rule_problems()
        yield from [*of_batches, *of_rule]
        if not (of_batches or of_rule or self.in_evaluation):
            yield from batches.pass_problems(self.make_update_rule().pass_settings)
        if self.entropy_z_threshold is not None:
            yield from trigger_problems(
                self.entropy_window,
                self.entropy_z_threshold,
                ("entropy_window", "entropy_z_threshold", "entropy_warmup", "entropy_patience"),
                warmup=self.entropy_warmup,
                patience=self.entropy_patience,
                must_fire=True,
            )
        yield from of_attributes(UpdateSettings, self).problems()
        yield from problems_of(self.make_lr_schedule)
        unknown_loss = problems_of(lambda: self.policy_loss)
        loss = LOSSES["grpo"] if unknown_loss else self.policy_loss
        yield from [*unknown_loss, *of_attributes(Objective, self, loss=loss).problems()]
        yield from bypassed_problems(self.learner_class, self._rl_module_spec)
        yield from evaluation_problems(self)
        yield from sampling_problems(self.sampling, evaluation=self.in_evaluation)
        yield from of_attributes(RolloutSettings, self).problems()
        yield from of_attributes(ReportingSettings, self).problems()
        yield from value_problems(self, {"restart_failed_learners": BOOL})
        numbers = rllib_problems(self, defaults)
        engine = validation.engine_problems(
            self.rollout_engine, self.engine_kwargs, self.model_config.get("lora")
        )
        yield from [*numbers, *engine]
        if numbers or engine:
            return  # what follows calculates with them
        unknown = problems_of(lambda: parallelism_class(self.parallelism))
        yield from unknown or parallelism_class(self.parallelism).problems(self)
        if not self.in_evaluation:  # which has no stream, and may have no runners of its own
            yield from self.stream_settings.problems()
            yield from self.weight_settings.problems()

    def costly_problems(self) -> Iterator[str]:
        """What is wrong with engine, model, environment and prompts: seconds, no weights loaded."""
        if self.num_env_runners or not self.in_evaluation:  # which else has the training's engines
            with contextlib.suppress(ValueError, TypeError):  # of an unknown one, or of no number
                yield from engine_class(self.rollout_engine).resource_problems(gpu_share(self))
        yield from validation.task_problems(
            self.model_config,
            of_attributes(RolloutSettings, self),
            engine_kwargs=self.engine_kwargs,
            env=self.env,
            env_config=self.env_config,
            needs_problem_ids=self.curriculum is not None and not self.in_evaluation,
        )
