"""What a learner does about its optimizer: made by name, its rate, its settings when restored."""

import contextlib
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.typing import ModuleID, StateDict

from sfpo_rllib.checkpoints import CheckpointedLearner, num_batches
from sfpo_rllib.core.optimizers import (
    hidden_matrices,
    keeping_settings,
    make_optimizer,
    optimizer_name,
)


class OptimizerLearner(CheckpointedLearner):
    """Has the optimizer that the config names, at the rate of the config's schedule.

    A state brings moments and step counts, and how far training has come. Settings are the
    config's, which may be another than the one the state was saved under.
    """

    @override(TorchLearner)
    def build(self) -> None:
        # Set before super().build(), which makes the optimizer.
        self._lr_schedule = self.config.make_lr_schedule()
        self._num_batches = 0
        self._optimizer_steps = 0
        self._timesteps = 0
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
        self._set_lr(optimizer)

    @override(TorchLearner)
    def before_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        super().before_gradient_based_update(timesteps=timesteps)
        for _, optimizer in self.get_optimizers_for_module(DEFAULT_MODULE_ID):
            self._set_lr(optimizer)
        self._num_batches += 1
        self._timesteps = int(timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))

    def _set_lr(self, optimizer: torch.optim.Optimizer) -> None:
        """The rate of the next batch, by the schedule of the config and what was trained before.

        A plain number: RLlib begins its schedules with a tensor, which not every optimizer takes.
        """
        if self._lr_schedule:
            self._batch_lr = self._lr_schedule.at(self._num_batches)
            lr = self._batch_lr * self._lr_schedule.warmup_share(self._optimizer_steps)
        else:
            lr = self._optimizer_lr_schedules[optimizer].update(timestep=self._timesteps)
        self._set_optimizer_lr(optimizer, lr)

    def _set_step_lr(self) -> None:
        """The rate of the next optimizer step, where steps are warmed up over."""
        if self._lr_schedule and self._lr_schedule.lr_warmup_steps:
            lr = self._batch_lr * self._lr_schedule.warmup_share(self._optimizer_steps)
            for _, optimizer in self.get_optimizers_for_module(DEFAULT_MODULE_ID):
                self._set_optimizer_lr(optimizer, lr)

    @override(TorchLearner)
    def _set_optimizer_state(self, state: StateDict) -> None:
        """Takes moments and step counts; the settings are the config's, which may be another."""
        with contextlib.ExitStack() as stack:
            for optimizer in self._named_optimizers.values():
                stack.enter_context(keeping_settings(optimizer))
            super()._set_optimizer_state(state)

    def get_rate_state(self) -> StateDict:
        """How far training has come, and with which optimizer."""
        return {
            "optimizer": optimizer_name(self.config.optimizer),
            "optimizer_steps": self._optimizer_steps,
            "num_batches": self._num_batches,
            "timesteps": self._timesteps,
        }

    def set_rate_state(self, state: StateDict) -> None:
        """Goes on from `get_rate_state()`."""
        self._optimizer_steps = int(state["optimizer_steps"])
        self._num_batches = num_batches(state, self._weights_seq_no)
        self._timesteps = int(state.get("timesteps", 0))

    def check_same_optimizer(self, state: StateDict) -> None:
        """Raises a ValueError if a `get_rate_state()` is of another optimizer."""
        own = optimizer_name(self.config.optimizer)
        saved = state.get("optimizer", own)
        if saved != own:
            raise ValueError(
                f"optimizer={own!r}: must be {saved!r}, the checkpoint's, whose "
                "moments another optimizer cannot go on from"
            )
