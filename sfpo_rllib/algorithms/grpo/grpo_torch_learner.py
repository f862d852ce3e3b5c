"""The GRPO learner: an update rule over passes, a pass in mini-batches and micro-batches."""

import contextlib
import itertools
import logging
import math
from collections.abc import Collection
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import ModuleID, ParamDict, StateDict, TensorType

from sfpo_rllib.algorithms.grpo.group_batches import GroupBatches
from sfpo_rllib.algorithms.grpo.minibatches import (
    START_LOGP,
    WEIGHTS,
    Batch,
    Minibatches,
    engine_logp_diff,
    moved,
    note_start,
)
from sfpo_rllib.algorithms.grpo.optimizer_learner import OptimizerLearner
from sfpo_rllib.algorithms.grpo.partition_learner import PartitionLearner
from sfpo_rllib.algorithms.grpo.recording_learner import RecordingLearner
from sfpo_rllib.algorithms.grpo.weights_learner import WeightsLearner
from sfpo_rllib.core.anchor import versions, whole
from sfpo_rllib.core.batch_guard import BatchGuard, BatchRefused
from sfpo_rllib.core.importance import effective_sample_share
from sfpo_rllib.core.metrics import Metrics, accumulate, over_learners, per_token
from sfpo_rllib.core.step_guard import StepGuard
from sfpo_rllib.core.update_rules import UpdateRule
from sfpo_rllib.core.update_rules.slow_fast_gated import HEAD_GRAD_NORM
from sfpo_rllib.core.updater import Updater
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    BEHAVIOUR_LOGP,
    ENTROPY,
    LOGP,
    LOSS_MASK,
    NUM_TURNS,
    REFERENCE_LOGP,
    forward_train,
)

logger = logging.getLogger(__name__)

RESULTS = "sfpo"

PassMetrics = dict[str, float]


class GRPOTorchLearner(OptimizerLearner, PartitionLearner, WeightsLearner, RecordingLearner):
    """Updates a causal LM from token batches of whole groups.

    RLlib hands `_update` the whole rollout batch, as neither `minibatch_size` nor `num_epochs`
    reach `Learner.update()`. The update rule decides about passes. A pass iterates its
    mini-batches, one optimizer step each, and micro-batches in them, whose gradients accumulate.
    The ratio's denominator is the policy at the start of the batch, as this learner computes it;
    what the engine's log-probs differ from it is corrected by importance weights.

    All learners take the same steps: they share mini-batches and the norm a step is skipped by.
    """

    @override(TorchLearner)
    def build(self) -> None:
        # Set before super().build(), which may already restore a state.
        self._updater: Updater[Minibatches, PassMetrics] = self.config.make_updater()
        self._zero_gradient_steps = 0
        self._batch_guard = BatchGuard(self.config.max_engine_logp_diff)
        self._step_guard = StepGuard(self.config.max_skipped_steps)
        self._objective = self.config.make_objective()
        super().build()
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        self._head: torch.Tensor | None = None
        if HEAD_GRAD_NORM in self._updater.rule.pass_metrics:
            self._head = _trained_head(module, self._updater.rule)
        if self.config.kl_coeff and not hasattr(module, "reference_logp"):
            raise ValueError(
                f"kl_coeff={self.config.kl_coeff}: must be 0 with {type(module).__name__}, which "
                "has no reference_logp()"
            )

    @override(TorchLearner)
    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        rollouts = dict(batch[DEFAULT_MODULE_ID])
        self._longest_episode.look_at(rollouts.pop(NUM_TURNS, None), self._all_reduce)
        minibatches = self._partition(rollouts)
        try:
            passes, metrics = self._update_on(minibatches)
        except BatchRefused as error:
            logger.error("A batch is not trained on: %s", error)
            metrics = {"active": 0.0}
            passes = [{"loss": math.nan, "entropy": math.nan, "engine_logp_diff": error.diff}]
        self.hold_rows(minibatches)
        self._log_passes(passes)
        # A pass without a token that counts, or with a step skipped, tells the trigger nothing. The
        # entropy is all-reduced, so that all learners switch the rule off at the same batch.
        sound = math.isfinite(passes[-1].get("grad_norm", math.nan))
        entropy_z = self._updater.observe(passes[-1]["entropy"]) if sound else math.nan
        self._log({**metrics, "entropy_z": entropy_z})
        return {}, {DEFAULT_MODULE_ID: torch.tensor(passes[-1]["loss"])}, {}

    def _update_on(self, minibatches: Minibatches) -> tuple[list[PassMetrics], dict[str, float]]:
        """Has the rule update on a batch; returns its passes' metrics and its own."""
        parameters = [param for param in self._params.values() if param.requires_grad]
        # Later mini-batches of the first pass are no longer at the start of the batch.
        self._start_versions = versions(parameters)
        if len(minibatches) > 1 or not self._updater.active_rule.first_pass_at_start:
            self._add_start_logp(minibatches)
        self._require_reference(minibatches)
        return self._updater.update(
            minibatches,
            self.run_pass,
            parameters=parameters,
            optimizers=[opt for _, opt in self.get_optimizers_for_module(DEFAULT_MODULE_ID)],
            groups=GroupBatches(
                self._micro_batches,
                batch_size=self.config.train_batch_size_per_learner,
                group_size=self.config.group_size,
                minibatch_size=self.config.effective_minibatch_size,
            ),
        )

    def run_pass(
        self,
        minibatches: Minibatches,
        *,
        num_minibatches: int | None = None,
        fraction: float = 1.0,
        turn: int = 0,
    ) -> PassMetrics:
        """Runs one pass over the batch: an optimizer step for each mini-batch.

        Args:
            minibatches: The batch, cut as the config says.
            num_minibatches: See `core.update_rules.RunPass`.
            fraction: See there.
            turn: See there.

        Returns:
            Over all learners: `loss` and `grad_norm` (before clipping), means over mini-batches;
            the metrics of `core.Objective` as means over tokens, or as maxima; `engine_ess`; if
            the rule looks at it, `head_grad_norm`. If no token counts, a `loss` of 0 and an
            `entropy` that is not a number.
        """
        self._require_reference(minibatches)
        recut = self._recut(num_minibatches, fraction, turn)
        if minibatches and recut is not None:
            if START_LOGP not in minibatches[0][0]:
                self._add_start_logp(minibatches)
            minibatches = self._cut_again(minibatches, recut)
        if not minibatches:
            return {"loss": 0.0, "entropy": math.nan}
        totals: Metrics = {}
        grad_norms, head_grad_norms = [], []
        for minibatch in minibatches:
            metrics, grad_norm = self._optimizer_step(minibatch)
            accumulate(totals, metrics)
            grad_norms.append(grad_norm)
            if self._head is not None:
                head_grad_norms.append(self._head_grad_norm)
        sums = over_learners(totals, distributed=self._distributed)
        result = per_token(sums)
        result["engine_ess"] = effective_sample_share(
            result["engine_ratio"], result.pop("engine_ratio_squared")
        )
        result["loss"] = sums["loss"] / len(minibatches)
        result["grad_norm"] = sum(grad_norms) / len(minibatches)
        if head_grad_norms:
            result[HEAD_GRAD_NORM] = sum(head_grad_norms) / len(minibatches)
        return result

    def _optimizer_step(self, minibatch: list[Batch]) -> tuple[Metrics, float]:
        """One optimizer step, unless its gradient is not finite, or there is nothing to learn.

        Returns:
            Metrics, sums over this learner's tokens or maxima, and the gradient's norm over all
            learners.
        """
        for optimizer in self._optimizer_parameters:
            optimizer.zero_grad(set_to_none=True)
        module = self.module[DEFAULT_MODULE_ID]
        totals: Metrics = {}
        is_start = START_LOGP not in minibatch[0]
        for i, micro in enumerate(minibatch):
            with self._accumulating(last=i == len(minibatch) - 1):
                fwd_out = forward_train(module, micro)
                if is_start:
                    self._require_start()
                    note_start(micro, fwd_out, with_entropy=self.is_recorded)
                loss, metrics = self._loss(micro, fwd_out)
                # DDP means over learners, and the weights are of the sum.
                (loss * self._world_size).backward()
            accumulate(totals, {"loss": loss.detach(), **metrics})
        if is_start:
            self._check_engine([minibatch])
        gradients = {pid: param.grad for pid, param in self._params.items()}
        norm = self._grad_norm = float(
            whole(torch.nn.utils.get_total_norm([g for g in gradients.values() if g is not None]))
        )
        if self._head is not None and self._head.grad is not None:
            self._head_grad_norm = float(whole(torch.linalg.vector_norm(self._head.grad)))
        if norm == 0.0 and not self._has_advantages(minibatch):
            # A step would be weight decay and what the moments remember.
            self._zero_gradient_steps += 1
        elif self._step_guard.allows(
            norm,
            parameters=module.unwrapped().named_parameters(),
            batch=lambda: moved(minibatch, "cpu"),
        ):
            self._set_step_lr()
            self.apply_gradients(self.postprocess_gradients(gradients))
            self._optimizer_steps += 1
        return totals, norm

    def _has_advantages(self, minibatch: list[Batch]) -> bool:
        """Whether any is not 0, with any learner: else no clip has made the gradient 0."""
        advantages = torch.cat([micro[ADVANTAGES] for micro in minibatch])
        count = advantages.count_nonzero().double()
        self._all_reduce(count)
        return bool(count)

    def _accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around a micro-batch: DDP reduces gradients in the backward pass, the last one's only."""
        if last or not self._distributed:
            return contextlib.nullcontext()
        return self.module[DEFAULT_MODULE_ID].no_sync()

    @override(TorchLearner)
    def postprocess_gradients_for_module(
        self, *, module_id: ModuleID, config: AlgorithmConfig, module_gradients_dict: ParamDict
    ) -> ParamDict:
        """Clips by the norm that is already there, which RLlib would take again."""
        if config.grad_clip is None or config.grad_clip_by != "global_norm":
            return super().postprocess_gradients_for_module(
                module_id=module_id, config=config, module_gradients_dict=module_gradients_dict
            )
        if self._grad_norm > config.grad_clip:
            scale = config.grad_clip / (self._grad_norm + 1e-6)
            torch._foreach_mul_([g for g in module_gradients_dict.values() if g is not None], scale)
        return module_gradients_dict

    @torch.no_grad()
    def _add_start_logp(self, minibatches: Minibatches) -> None:
        """Computes the ratio's denominators, where the first pass does not yield them."""
        self._require_start()
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        for micro in itertools.chain.from_iterable(minibatches):
            note_start(micro, forward_train(module, micro), with_entropy=self.is_recorded)
        self._check_engine(minibatches)

    def _require_start(self) -> None:
        """Raises if the parameters have moved since the update began."""
        params = [param for param in self._params.values() if param.requires_grad]
        if versions(params) != self._start_versions:
            raise RuntimeError(
                f"update_rule={self._updater.rule!r}: it moved the parameters before its first "
                "pass over the new batch, and must say so: first_pass_at_start = False"
            )

    @override(TorchLearner)
    def compute_loss_for_module(
        self,
        *,
        module_id: ModuleID,
        config: AlgorithmConfig,
        batch: dict[str, Any],
        fwd_out: dict[str, TensorType],
    ) -> TensorType:
        """The loss of one micro-batch; see `_loss`, which also returns its metrics."""
        return self._loss(batch, fwd_out)[0]

    def _loss(self, micro: Batch, fwd_out: Batch) -> tuple[torch.Tensor, Metrics]:
        """The objective of a micro-batch, and its metrics."""
        return self._objective(
            logp=fwd_out[LOGP],
            entropy=fwd_out[ENTROPY],
            start_logp=micro[START_LOGP],
            engine_logp=micro[BEHAVIOUR_LOGP],
            reference_logp=micro.get(REFERENCE_LOGP),
            advantages=micro[ADVANTAGES].unsqueeze(1),
            mask=micro[LOSS_MASK],
            weights=micro[WEIGHTS],
        )

    def _check_engine(self, minibatches: Minibatches) -> None:
        """Raises BatchRefused, for all learners, if the engine's log-probs are not of the batch.

        Those of older weights differ as much as the updates since have changed: of them it is
        only asked that they are numbers.
        """
        if minibatches:  # else no token counts, with any learner
            # RLlib counts the update before it begins.
            sums = engine_logp_diff(minibatches, version=self._weights_seq_no - 1)
            self._all_reduce(sums)
            present, count, everywhere = sums.tolist()
            mean = present / count if count else 0.0
            self._batch_guard.check(mean if math.isfinite(everywhere) else everywhere)

    def _log_passes(self, passes: list[PassMetrics]) -> None:
        # Of the engine all passes over the whole of the new batch say the same.
        of_engine = {n: v for n, v in passes[-1].items() if n.startswith("engine_")}
        for k, metrics in enumerate(passes):
            self._log({(f"pass_{k}", n): v for n, v in metrics.items() if n not in of_engine})
        self._log(
            {
                **of_engine,
                "entropy": passes[-1]["entropy"],
                "optimizer_steps_lifetime": self._optimizer_steps,
                "skipped_steps_lifetime": self._step_guard.skipped,
                "zero_gradient_steps_lifetime": self._zero_gradient_steps,
                "refused_batches_lifetime": self._batch_guard.refused,
            }
        )

    def _log(self, values: dict[Any, Any]) -> None:
        """Logs under this module's `sfpo` key, as the value of this iteration."""
        for key, value in values.items():
            path = key if isinstance(key, tuple) else (key,)
            self.metrics.log_value((DEFAULT_MODULE_ID, RESULTS, *path), value, window=1)

    @override(TorchLearner)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(RESULTS, components, not_components):
            state[RESULTS] = self.get_update_state()
        return state

    @override(TorchLearner)
    def set_state(self, state: StateDict) -> None:
        if RESULTS in state:
            self.check_same_optimizer(state[RESULTS])
        super().set_state(state)
        if RESULTS in state:
            self.set_update_state(state[RESULTS])

    def get_update_state(self) -> StateDict:
        """What the update carries from batch to batch, besides weights and optimizer."""
        return {
            "batch_guard": self._batch_guard.state_dict(),
            "step_guard": self._step_guard.state_dict(),
            "zero_gradient_steps": self._zero_gradient_steps,
            "several_turns": self._longest_episode.several_turns,
            "partition_rng": self._partition_rng.get_state().numpy(),
            **self.get_rate_state(),
            **self._updater.state_dict(),
        }

    def set_update_state(self, state: StateDict) -> None:
        """Goes on from `get_update_state()`."""
        if "batch_guard" in state:  # earlier releases had none
            self._batch_guard.load_state_dict(state["batch_guard"])
        self._zero_gradient_steps = int(state.get("zero_gradient_steps", 0))  # likewise
        self._longest_episode.restore(several_turns=state.get("several_turns", False))
        # Earlier releases had one of the guard's two counters.
        guard = state.get("step_guard", {"skipped": state.get("skipped_steps", 0)})
        self._step_guard.load_state_dict(guard)
        self.set_rate_state(state)
        self._partition_rng.set_state(torch.tensor(state["partition_rng"], dtype=torch.uint8))
        self._updater.load_state_dict(state)

    def get_recent_batches(self) -> list[Any]:
        """This learner's share of the batches that the rule keeps, in host memory.

        RLlib saves one learner's state for all, and shares differ: the algorithm collects them.
        """
        return moved(self._updater.recent, "cpu")

    def set_recent_batches(self, batches: list[Any]) -> None:
        """Goes on from `get_recent_batches()`."""
        self._updater.recent = moved(batches, self._device)


def _trained_head(module: Any, rule: UpdateRule) -> torch.Tensor:
    """The weight of the model's output layer, which may be the embeddings', too."""
    lm = getattr(module, "lm", None)
    head = None if lm is None else lm.get_output_embeddings()
    if head is None or not head.weight.requires_grad:
        raise ValueError(
            f"update_rule={rule!r}: must not look at the gradient of the output layer, which "
            f"{type(module).__name__} does not train here"
        )
    weight: torch.Tensor = head.weight
    return weight
