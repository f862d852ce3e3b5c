"""FSDP2 on transformers models, and their tensors on the way in and out of the shards."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel

from sfpo_rllib.rl_modules.loading import fill


def shard_module(
    module: torch.nn.Module,
    models: Iterable[PreTrainedModel],
    mesh: DeviceMesh,
    *,
    compute_dtype: torch.dtype,
    forward_methods: Iterable[str],
    fills: bool = False,
) -> None:
    """Shards the parameters of a module over a mesh, in place, and moves them to its devices.

    The layers of the models are gathered one after the other, in the compute dtype; what is
    outside of them, embeddings, final norm and LM head, together and in float32, so that the
    chunks of the head add up in float32. Gradients are reduced in float32.

    Args:
        module: Holds the models.
        models: Their layers are found by transformers' `_no_split_modules`.
        mesh: Of one dimension.
        compute_dtype: Of the layers.
        forward_methods: Methods of `module` that run the models, instead of `forward`.
        fills: Whether the first process alone has the weights. Others get them layer by layer, and
            never hold more of the model than that and their shards.

    Raises:
        ValueError: If a model does not name its layers.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=compute_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for model in models:
        kinds = set(model._no_split_modules or ())
        layers = [layer for layer in model.modules() if type(layer).__name__ in kinds]
        if not layers:
            raise ValueError(
                f"parallelism='fsdp': must be 'ddp' for {type(model).__name__}, which does not "
                "name its layers"
            )
        for layer in layers:
            if fills:
                fill(layer, own_device(mesh))
            fully_shard(layer, mesh=mesh, mp_policy=policy)
    if fills:
        fill(module, own_device(mesh))
    # Resharded after each forward pass: one without a backward pass would otherwise leave gathered
    # weights behind, which the next one takes although an update has moved them.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for name in forward_methods:
        register_fsdp_forward_method(module, name)


def own_device(mesh: DeviceMesh) -> torch.device:
    """The device of a mesh that is this process's."""
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(
        mesh.device_type, torch.get_device_module(mesh.device_type).current_device()
    )


def gather(tree: Any, dtype: torch.dtype | None = None) -> Any:
    """The tree with its DTensors whole, in host memory, on the first process of their mesh.

    Collective: every process that holds a shard must call it, with the same tree. One tensor at a
    time is whole on a device.

    Args:
        tree: Nested dicts and lists.
        dtype: The shards are cast to it before they travel. None: they are not.

    Returns:
        The tree; on other processes than the first, with None instead of DTensors.
    """

    def whole(tensor: DTensor) -> torch.Tensor | None:
        cast: Any = tensor.detach().to(dtype or tensor.dtype)
        full: torch.Tensor = cast.full_tensor()
        return full.cpu() if tensor.device_mesh.get_rank() == 0 else None

    return tree_map_only(DTensor, whole, tree)


@torch.no_grad()
def load(param: torch.Tensor, full: np.ndarray) -> None:
    """Copies a whole array into a parameter, or into this process's shard of it."""
    param.copy_(like(param, full))


def like(param: torch.Tensor, full: np.ndarray) -> torch.Tensor:
    """A whole array as a tensor on the parameter's device, sharded as it is. Not collective."""
    tensor = torch.from_numpy(np.array(full))
    if not isinstance(param, DTensor):
        return tensor.to(param.device)
    return distribute_tensor(tensor, param.device_mesh, param.placements, src_data_rank=None)
