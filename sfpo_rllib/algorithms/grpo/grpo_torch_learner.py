"""The GRPO learner: an update rule over passes, a pass in mini-batches and micro-batches."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import ModuleID, StateDict, TensorType

from sfpo_rllib.core.losses import clipped_surrogate_loss, token_weights
from sfpo_rllib.core.optimizers import hidden_matrices, make_optimizer
from sfpo_rllib.core.updater import Updater
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    ENTROPY,
    INPUT_IDS,
    LOGP,
    LOSS_MASK,
)

RESULTS = "sfpo"
WEIGHTS = "token_weights"
START_LOGP = "start_logp"

PassMetrics = dict[str, float]
Batch = dict[str, torch.Tensor]
Minibatches = list[list[Batch]]  # of micro-batches


class GRPOTorchLearner(TorchLearner):
    """Updates a causal LM from token batches of whole groups.

    RLlib hands `_update` the whole rollout batch, as neither `minibatch_size` nor `num_epochs`
    reach `Learner.update()`. The update rule decides about passes. A pass iterates its
    mini-batches, one optimizer step each, and micro-batches in them, whose gradients accumulate.
    The ratio's denominator is the policy at the start of the batch, as this learner computes it;
    what the engine's log-probs differ from it is corrected by a truncated importance weight.
    """

    @override(TorchLearner)
    def build(self) -> None:
        # Set before super().build(), which may already restore a state.
        self._updater: Updater[Minibatches, PassMetrics] = self.config.make_updater()
        self._partition_rng = torch.Generator().manual_seed(self.config.seed or 0)
        self._optimizer_steps = 0
        self._lr_schedule = self.config.make_lr_schedule()
        self._num_batches = 0
        super().build()

    @override(TorchLearner)
    def configure_optimizers_for_module(
        self, module_id: ModuleID, config: AlgorithmConfig | None = None
    ) -> None:
        config = config or self.config
        module = self.module[module_id]
        parameters = [p for p in self.get_parameters(module) if p.requires_grad]
        optimizer = make_optimizer(
            config.optimizer,
            parameters,
            matrices=hidden_matrices(module),
            betas=config.adam_betas,
            weight_decay=config.weight_decay,
            settings=config.optimizer_kwargs,
        )
        self.register_optimizer(
            module_id=module_id,
            optimizer=optimizer,
            params=parameters,
            # What is a schedule of timesteps is RLlib's to advance, the rest ours.
            lr_or_lr_schedule=None if self._lr_schedule else config.lr,
        )
        # RLlib begins a schedule with a tensor, which not every optimizer takes.
        self._set_optimizer_lr(optimizer, float(self._get_optimizer_lr(optimizer)))

    @override(TorchLearner)
    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        super().before_gradient_based_update(timesteps=timesteps)
        if self._lr_schedule:
            for _, optimizer in self.get_optimizers_for_module(DEFAULT_MODULE_ID):
                self._set_optimizer_lr(optimizer, self._lr_schedule.at(self._num_batches))
        self._num_batches += 1

    @override(TorchLearner)
    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        minibatches = self._partition(dict(batch[DEFAULT_MODULE_ID]))
        parameters = [param for param in self._params.values() if param.requires_grad]
        # Later mini-batches of the first pass are no longer at the start of the batch.
        if len(minibatches) > 1 or not self._updater.active_rule.first_pass_at_start:
            for minibatch in minibatches:
                self._compute_start_logp(minibatch)
        self._start_versions = _versions(parameters)
        passes, metrics = self._updater.update(
            minibatches,
            self.run_pass,
            parameters=parameters,
            optimizers=[opt for _, opt in self.get_optimizers_for_module(DEFAULT_MODULE_ID)],
        )
        self._log_passes(passes)
        # All-reduced, so that all learners switch the rule off at the same batch.
        self._log({**metrics, "entropy_z": self._updater.observe(passes[-1]["entropy"])})
        return {}, {DEFAULT_MODULE_ID: torch.tensor(passes[-1]["loss"])}, {}

    def run_pass(self, minibatches: Minibatches) -> PassMetrics:
        """Runs one pass over the batch: an optimizer step for each mini-batch.

        Returns:
            Over all learners: `loss` and `grad_norm` (before clipping), means over mini-batches;
            `entropy`, `kl_to_start`, `clip_fraction`, `engine_logp_diff`, means over tokens.
        """
        sums: dict[str, torch.Tensor] = {}
        for minibatch in minibatches:
            metrics = self._optimizer_step(minibatch)
            for name, value in metrics.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        self._all_reduce(*(value for name, value in sums.items() if name != "grad_norm"))
        num_tokens = max(float(sums.pop("num_tokens")), 1.0)
        per_minibatch = {"loss", "grad_norm"}
        return {
            name: float(value) / (len(minibatches) if name in per_minibatch else num_tokens)
            for name, value in sums.items()
        }

    def _optimizer_step(self, minibatch: list[Batch]) -> dict[str, torch.Tensor]:
        """One optimizer step. Metrics are sums over this learner's tokens."""
        for optimizer in self._optimizer_parameters:
            optimizer.zero_grad(set_to_none=True)
        module = self.module[DEFAULT_MODULE_ID]
        sums: dict[str, torch.Tensor] = {}
        for i, micro in enumerate(minibatch):
            # DDP reduces gradients in the backward pass: only the last one needs to.
            last = i == len(minibatch) - 1
            with contextlib.nullcontext() if last or not self._distributed else module.no_sync():
                fwd_out = module.forward_train(micro)
                if START_LOGP not in micro:
                    self._require_start()
                    micro[START_LOGP] = fwd_out[LOGP].detach()
                loss, metrics = self._loss(micro, fwd_out)
                # DDP means over learners, and the weights are of the sum.
                (loss * self._world_size).backward()
            for name, value in {"loss": loss.detach(), **metrics}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
        gradients = {pid: param.grad for pid, param in self._params.items()}
        norm = torch.nn.utils.get_total_norm([g for g in gradients.values() if g is not None])
        self.apply_gradients(self.postprocess_gradients(gradients))
        self._optimizer_steps += 1
        return {**sums, "grad_norm": norm}

    def _require_start(self) -> None:
        """Raises if the parameters have moved since the update began."""
        params = [param for param in self._params.values() if param.requires_grad]
        if _versions(params) != self._start_versions:
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

    def _loss(self, micro: Batch, fwd_out: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Clipped surrogate of a micro-batch, corrected for what the engine sampled from."""
        mask, start = micro[LOSS_MASK], micro[START_LOGP]
        engine_gap = torch.where(mask, start - micro[BEHAVIOUR_LOGP], 0.0)
        weights = micro[WEIGHTS]
        if self.config.engine_ratio_cap is not None:
            weights = weights * engine_gap.exp().clamp(max=self.config.engine_ratio_cap)
        loss, metrics = clipped_surrogate_loss(
            fwd_out[LOGP],
            start,
            micro[ADVANTAGES].unsqueeze(1),
            weights,
            clip_param=self.config.clip_param,
            clip_param_high=self.config.clip_param_high,
        )
        metrics["entropy"] = torch.where(mask, fwd_out[ENTROPY], 0.0).sum()
        metrics["engine_logp_diff"] = engine_gap.abs().sum()
        metrics["num_tokens"] = mask.sum().float()
        return loss, metrics

    def _partition(self, rollouts: Batch) -> Minibatches:
        """Cuts the batch into mini-batches and these into micro-batches.

        The cut is drawn once a batch, so that all passes over it see the same mini-batches.
        """
        order = torch.randperm(len(rollouts[INPUT_IDS]), generator=self._partition_rng)
        parts = order.split(self.config.effective_minibatch_size)
        return [self._micro_batches(rollouts, rows) for rows in parts]

    def _micro_batches(self, rollouts: Batch, rows: torch.Tensor) -> list[Batch]:
        """Micro-batches of a mini-batch, of similar lengths and at most so many padded tokens."""
        rows = rows.to(rollouts[INPUT_IDS].device)
        mask = rollouts[LOSS_MASK][rows]
        counts = torch.stack([mask.sum(), mask.any(dim=1).sum()]).float()
        self._all_reduce(counts)
        weights = token_weights(
            mask,
            aggregation=self.config.loss_aggregation,
            num_tokens=float(counts[0]),
            num_sequences=float(counts[1]),
            max_tokens=self.config.sampling_settings.max_tokens,
        )
        lengths = rollouts[ATTENTION_MASK][rows].sum(dim=1)
        micro_batches = []
        for part in _token_budget(lengths.cpu(), self.config.max_tokens_per_micro_batch):
            part = part.to(rows.device)
            width = int(lengths[part].max())
            micro = {
                name: column[rows[part]][:, :width] if column.ndim > 1 else column[rows[part]]
                for name, column in rollouts.items()
            }
            micro[WEIGHTS] = weights[part][:, :width]
            micro_batches.append(micro)
        return micro_batches

    @torch.no_grad()
    def _compute_start_logp(self, minibatch: list[Batch]) -> None:
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        for micro in minibatch:
            micro[START_LOGP] = module.forward_train(micro)[LOGP]

    def _log_passes(self, passes: list[PassMetrics]) -> None:
        diff = passes[-1]["engine_logp_diff"]  # the same in all passes over the new batch
        for k, metrics in enumerate(passes):
            metrics = {name: value for name, value in metrics.items() if name != "engine_logp_diff"}
            self._log({(f"pass_{k}", name): value for name, value in metrics.items()})
        self._log(
            {
                "entropy": passes[-1]["entropy"],
                "engine_logp_diff": diff,
                "optimizer_steps_lifetime": self._optimizer_steps,
            }
        )

    def _log(self, values: dict[Any, Any]) -> None:
        """Logs under this module's `sfpo` key, as the value of this iteration."""
        for key, value in values.items():
            path = key if isinstance(key, tuple) else (key,)
            self.metrics.log_value((DEFAULT_MODULE_ID, RESULTS, *path), value, window=1)

    @property
    def _world_size(self) -> int:
        # Not torch.distributed's: an engine in this process may have initialised a group of one.
        return max(self.config.num_learners, 1)

    @property
    def _distributed(self) -> bool:
        return self._world_size > 1

    def _all_reduce(self, *tensors: torch.Tensor) -> None:
        """Sums over learners, in place."""
        if self._distributed:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

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
        super().set_state(state)
        if RESULTS in state:
            self.set_update_state(state[RESULTS])

    def get_update_state(self) -> StateDict:
        """What the update carries from batch to batch, besides weights and optimizer."""
        return {
            "optimizer_steps": self._optimizer_steps,
            "num_batches": self._num_batches,
            "partition_rng": self._partition_rng.get_state().numpy(),
            **self._updater.state_dict(),
        }

    def set_update_state(self, state: StateDict) -> None:
        """Goes on from `get_update_state()`."""
        self._optimizer_steps = int(state["optimizer_steps"])
        self._num_batches = int(state["num_batches"])
        self._partition_rng.set_state(torch.as_tensor(state["partition_rng"], dtype=torch.uint8))
        self._updater.load_state_dict(state)

    def get_recent_batches(self) -> list[Any]:
        """This learner's share of the batches that the rule keeps, in host memory.

        RLlib saves one learner's state for all, and shares differ: the algorithm collects them.
        """
        return _moved(self._updater.recent, "cpu")

    def set_recent_batches(self, batches: list[Any]) -> None:
        """Goes on from `get_recent_batches()`."""
        self._updater.recent = _moved(batches, self._device)


def _token_budget(lengths: torch.Tensor, max_tokens: int) -> Iterator[torch.Tensor]:
    """Indices of sequences, longest first, in parts of at most `max_tokens` padded tokens.

    A sequence longer than that is a part of its own.
    """
    order = lengths.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        size = max(max_tokens // int(lengths[order[start]]), 1)
        yield order[start : start + size]
        start += size


def _versions(parameters: list[torch.Tensor]) -> list[int]:
    """How often each was changed in place."""
    return [param._version for param in parameters]


def _moved(tree: Any, device: Any) -> Any:
    """Nested lists and dicts of tensors, on another device."""
    if isinstance(tree, list):
        return [_moved(branch, device) for branch in tree]
    if isinstance(tree, dict):
        return {name: _moved(branch, device) for name, branch in tree.items()}
    return tree.to(device)
