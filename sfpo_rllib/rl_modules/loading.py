"""A model that several processes build is read from its checkpoint by the first of them alone.

The others build it with parameters on the meta device, and are given the values by the first one.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sfpo_rllib.rl_modules.model_settings import ModelSettings

# Whether this process is the one that reads; None: every process does.
_READS: ContextVar[bool | None] = ContextVar("reads", default=None)


@contextlib.contextmanager
def read_once(*, is_first: bool | None) -> Iterator[None]:
    """Models that can be are built in the body by reading in the first process only.

    Args:
        is_first: Whether this is the first process. None: every process reads, all the same.
    """
    token = _READS.set(is_first)
    try:
        yield
    finally:
        _READS.reset(token)


def is_read_once() -> bool:
    """Whether models are being built so: all processes must `fill()` them then."""
    return _READS.get() is not None


def load_model(config: Mapping[str, Any], attn_implementation: str | None) -> PreTrainedModel:
    """A causal LM in float32, as `model_config` says.

    Args:
        config: `model`, `revision` and `trust_remote_code` count.
        attn_implementation: As in transformers.

    Returns:
        The model; its parameters are on the meta device where another process reads them.
    """
    settings = ModelSettings.of(config)
    how = {"dtype": torch.float32, "attn_implementation": attn_implementation}
    if _READS.get() is not False:
        read: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            settings.model, **how, **settings.source
        )
        return read
    model_config = settings.pretrained_config()
    with _parameters_on_meta():
        made: PreTrainedModel = AutoModelForCausalLM.from_config(
            model_config, trust_remote_code=settings.trust_remote_code, **how
        )
    return made.eval()


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters are put on the meta device as they are made; whatever else a model has is real."""
    register = torch.nn.Module.register_parameter

    def on_meta(self: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = torch.nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    torch.nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


@torch.no_grad()
def fill(module: torch.nn.Module, device: torch.device) -> None:
    """Moves a module to a device, with the values of the first process. Collective.

    Shards are passed over: they have their values.

    Args:
        module: The same in all processes, apart from its values.
        device: Where the process group can broadcast.
    """
    filled: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # tied ones are one tensor
    for part in module.modules():
        kinds: tuple[dict[str, Any], ...] = part._parameters, part._buffers
        for held in kinds:
            for name, tensor in held.items():
                if tensor is None or isinstance(tensor, DTensor):
                    continue
                if id(tensor) not in filled:
                    filled[id(tensor)] = tensor, _received(tensor, device)
                held[name] = filled[id(tensor)][1]


def _received(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The first process's values, in a parameter if it is one."""
    if tensor.is_meta:
        values = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    else:
        values = tensor.detach().to(device).contiguous()
    torch.distributed.broadcast(values, src=0)
    if not isinstance(tensor, torch.nn.Parameter):
        return values
    return torch.nn.Parameter(values, requires_grad=tensor.requires_grad)


def frozen_copy(lm: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy that is not trained. What a pass under autocast casts to `dtype` is held in it.

    So are the weights of linear layers, which are nearly all, and of no others: the copy computes
    what one in the model's own dtype would.
    """
    ends = (lm.get_input_embeddings(), lm.get_output_embeddings())
    outside = {id(p) for end in ends if end is not None for p in end.parameters()}
    linear = (torch.nn.Linear, Conv1D)
    cast = {
        id(param)
        for part in lm.modules()
        if isinstance(part, linear)
        for param in part.parameters(recurse=False)
    } - outside
    memo: dict[int, Any] = {
        id(p): torch.nn.Parameter(
            p.detach().to(dtype if id(p) in cast else p.dtype, copy=True), requires_grad=False
        )
        for p in lm.parameters()
    }
    copied: PreTrainedModel = copy.deepcopy(lm, memo)
    return copied.requires_grad_(False)
