"""Learners that share one sharded model (FSDP2), under RLlib's LearnerGroup.

RLlib asks the first learner alone for weights and state, and gathering shards is collective: a
learner that gathers on its own waits forever. So the group has all learners gather first, and the
first one answers from what it then holds in host memory.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_OPTIMIZER, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.utils.annotations import override
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.typing import StateDict
from torch.distributed.device_mesh import init_device_mesh

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.algorithms.grpo.minibatches import WEIGHTS, Batch
from sfpo_rllib.core.checks import is_int
from sfpo_rllib.core.optimizers import keeping_settings, optimizer_spec
from sfpo_rllib.remote import values_of
from sfpo_rllib.rl_modules.causal_lm import INPUT_IDS, LOSS_MASK
from sfpo_rllib.rl_modules.parallelism import DDP, FP32
from sfpo_rllib.rl_modules.sharding import gather, like


class FSDPTorchLearner(GRPOTorchLearner):
    """A learner that holds a shard of weights, gradients, moments and snapshot.

    Gradients are reduced in every micro-batch: to keep them for the last one would take the memory
    that sharding saves. States have the form of those of other learners.
    """

    @override(TorchLearner)
    def build(self) -> None:
        self._gathered_optimizers: StateDict | None = None
        super().build()

    @override(TorchLearner)
    def _map_module_to_device(self, module: MultiRLModule) -> None:
        # Before there are optimizers, and instead of moving the whole model.
        rl_module = module[DEFAULT_MODULE_ID]
        if not hasattr(rl_module, "shard"):
            raise ValueError(
                f"parallelism='fsdp': must be 'ddp' with {type(rl_module).__name__}, which has no "
                "shard()"
            )
        rl_module.shard(init_device_mesh(self._device.type, (self._world_size,)))

    @override(TorchLearner)
    def _make_modules_ddp_if_necessary(self) -> None:
        pass

    @override(GRPOTorchLearner)
    def _accumulating(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    @override(GRPOTorchLearner)
    def _micro_batches(self, rollouts: Batch, rows: torch.Tensor) -> list[Batch]:
        # A forward pass is collective: all learners must run the same number of them.
        micros = super()._micro_batches(rollouts, rows)
        most = torch.tensor([len(micros)], device=rollouts[INPUT_IDS].device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return micros + [_blank(micros[-1]) for _ in range(int(most) - len(micros))]

    def gather_state(
        self,
        components: str | Collection[str] | None = None,
        not_components: str | Collection[str] | None = None,
        *,
        for_engines: bool = False,
    ) -> None:
        """Has `get_state()` answer on the first learner, until `release_state()`. Collective.

        Args:
            components: As in `get_state`; weights are gathered in any case.
            not_components: As in `get_state`.
            for_engines: Whether weights are those that engines load, and no others.
        """
        self.module[DEFAULT_MODULE_ID].gather_weights(for_engines=for_engines)
        if self._check_component(COMPONENT_OPTIMIZER, components, not_components):
            states = {
                name: gather(optimizer.state_dict())
                for name, optimizer in self._named_optimizers.items()
            }
            self._gathered_optimizers = {
                name: {"module_id": DEFAULT_MODULE_ID, "state": convert_to_numpy(state)}
                for name, state in states.items()
                if torch.distributed.get_rank() == 0
            }

    def release_state(self) -> None:
        """Lets go of what `gather_state` holds."""
        self.module[DEFAULT_MODULE_ID].release_weights()
        self._gathered_optimizers = None

    @override(TorchLearner)
    def _get_optimizer_state(self) -> StateDict:
        if self._gathered_optimizers is None:
            raise RuntimeError(
                "the optimizer's state is sharded over the learners; ask the learner group for it, "
                "which gathers it first"
            )
        return self._gathered_optimizers

    @override(TorchLearner)
    def _set_optimizer_state(self, state: StateDict) -> None:
        for name, optimizer in self._named_optimizers.items():
            saved = state[name]["state"]
            params = [param for group in optimizer.param_groups for param in group["params"]]
            moments = {
                index: {
                    key: like(params[index], value)
                    if np.shape(value) == params[index].shape
                    else torch.as_tensor(value)  # a counter of steps
                    for key, value in values.items()
                }
                for index, values in saved["state"].items()
            }
            with keeping_settings(optimizer):
                optimizer.load_state_dict({**saved, "state": moments})


def _blank(micro: Batch) -> Batch:
    """One sequence in which nothing counts."""
    one = {name: column[:1] for name, column in micro.items()}
    return {**one, **{name: torch.zeros_like(one[name]) for name in (LOSS_MASK, WEIGHTS)}}


class FSDPLearnerGroup(GRPOLearnerGroup):
    """Gathers the learners' shards before the first learner is asked for them."""

    @override(GRPOLearnerGroup)
    @contextlib.contextmanager
    def gathered(
        self,
        components: str | Collection[str] | None = None,
        not_components: str | Collection[str] | None = None,
        *,
        for_engines: bool = False,
    ) -> Iterator[None]:
        self._on_all(
            lambda learner: learner.gather_state(
                components, not_components, for_engines=for_engines
            )
        )
        try:
            yield
        finally:
            self._on_all(lambda learner: learner.release_state())

    def _on_all(self, function: Callable[[FSDPTorchLearner], None]) -> None:
        values_of(self.foreach_learner(function))


class FSDP(DDP):
    """Each learner holds a shard. Layers are gathered one after the other, the rest together."""

    learner = f"{__name__}:FSDPTorchLearner"
    learner_group = f"{__name__}:FSDPLearnerGroup"

    @classmethod
    @override(DDP)
    def problems(cls, config: AlgorithmConfig) -> list[str]:
        learner, lora = config.learner_class, config.model_config.get("lora")
        clips_each = config.grad_clip is not None and config.grad_clip_by != "global_norm"
        try:
            is_shardable = optimizer_spec(config.optimizer).shardable
        except ValueError:  # there is none of that name, which is another problem
            is_shardable = True
        checks = (
            (
                not is_int(config.num_learners, 2),
                f"num_learners={config.num_learners!r}: must be at least 2",
                "; a single learner has nobody to share the model with",
            ),
            (
                not issubclass(learner, FSDPTorchLearner),
                f"learner_class={learner.__name__}: must be a subclass of FSDPTorchLearner",
                "",
            ),
            (
                lora is not None,
                f"model_config['lora']={lora!r}: must be None",
                "; with 'ddp' the model is held in its dtype and little is trained",
            ),
            (
                not is_shardable,
                f"optimizer={config.optimizer!r}: must be another",
                ", as it does not take sharded weights",
            ),
            (
                bool(config.torch_ddp_kwargs),
                f"torch_ddp_kwargs={config.torch_ddp_kwargs!r}: must be empty",
                ", as there is no DDP",
            ),
            (
                clips_each,
                f"grad_clip_by={config.grad_clip_by!r}: must be 'global_norm'",
                "; a learner sees shards of the gradients",
            ),
        )
        return [f"{what} with parallelism='fsdp'{why}" for wrong, what, why in checks if wrong]

    @classmethod
    @override(DDP)
    def num_shards(cls, num_learners: int) -> int:
        return num_learners

    @classmethod
    @override(DDP)
    def buckets(cls, gradients: int, num_learners: int) -> int:
        return 0

    @classmethod
    @override(DDP)
    def pass_weights(cls, model: Any, compute_bytes: int, *, holds_reference: bool) -> int:
        # Two layers, gradients of one and its copy that is reduced; what is outside of them, the
        # reference's too, in float32.
        layers = (3 * compute_bytes + FP32) * model.largest_layer
        return int(layers + (3 if holds_reference else 2) * FP32 * model.outside_layers)
