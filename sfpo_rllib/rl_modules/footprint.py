"""What a model takes: exact sizes of its tensors, and a trace of the memory of a pass.

Everything runs on fake tensors, which have shapes and dtypes but no data: no weights are loaded
and nothing is computed.
"""

import contextlib
import copy
import logging
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from sfpo_rllib.core.optimizers import (
    Optimizer,
    hidden_matrices,
    parameters_at_once,
    state_bytes,
)
from sfpo_rllib.rl_modules.lora import LoraSettings, add_lora, cast_base
from sfpo_rllib.rl_modules.recurrence import is_recurrent

logger = logging.getLogger(__name__)

TRACED_LAYERS = (1, 2)  # the others are taken to be as large as the second
RECURRENT_LENGTH = 64  # their bytes of a token are the same at any length


@dataclass(frozen=True)
class Footprint:
    """Sizes of a model and of a pass through it.

    Attributes:
        num_parameters: Tied ones once; with LoRA those of model and adapter.
        trained_parameters: All of them, or the adapter's; the rest is held in the compute dtype.
        largest_parameter: Of one tensor that is trained.
        largest_layer: Parameters of one decoder layer; 0 if it has none that we recognise.
        outside_layers: Parameters of embeddings, head and final norm.
        cast_parameters: Those that autocast copies into the compute dtype.
        optimizer_bytes: Moments of all that is trained.
        parameters_at_once: Those that the optimizer updates in one go on a GPU.
        held_per_token: Bytes that the layers keep for the backward pass.
        peak_per_token: Most bytes at once in the layers' forward and backward pass; both 0 if the
            architecture could not be traced.
        vocab_size: Logits of a token.
        kv_values: Keys and values of a token in all layers.
    """

    num_parameters: int
    trained_parameters: int
    largest_parameter: int
    largest_layer: int
    outside_layers: int
    cast_parameters: int
    optimizer_bytes: int
    parameters_at_once: int
    held_per_token: float
    peak_per_token: float
    vocab_size: int
    kv_values: int


def measure_footprint(
    model_config: PretrainedConfig,
    *,
    length: int,
    compute_dtype: torch.dtype = torch.float32,
    gradient_checkpointing: bool = False,
    optimizer: Optimizer = "adamw",
    optimizer_kwargs: dict[str, Any] | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    lora: LoraSettings | None = None,
) -> Footprint:
    """Builds the model of a config on fake tensors and measures it.

    Args:
        model_config: Of a causal LM.
        length: Tokens of the sequences with which the bytes of a token are measured: where
            attention holds its scores, they depend on it.
        compute_dtype: Of the pass; weights, gradients and optimizer are float32.
        gradient_checkpointing: Whether layers keep their inputs alone.
        optimizer: See `core.make_optimizer`.
        optimizer_kwargs: Of the optimizer.
        attn_implementation: As in transformers.
        trust_remote_code: As in transformers.
        lora: Arguments of `peft.LoraConfig`, if it is an adapter that is trained.
    """
    text = model_config.get_text_config()
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(model_config),  # it writes the attention and dtype into it
            dtype=torch.float32,
            # One that fake tensors go through, and that is installed: flash kernels hold no scores
            # either.
            attn_implementation=attn_implementation
            if attn_implementation in (None, "eager", "sdpa")
            else "sdpa",
            trust_remote_code=trust_remote_code,
        )
        if lora is not None:
            _add_fake_lora(model, lora)
            cast_base(model, compute_dtype)
        model.eval()
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
        parameters = _trained(model)
        sizes = [p.numel() for p in parameters]
        matrices = hidden_matrices(model)
        layers = _layers(model)
        in_layers = [sum(p.numel() for p in layer.parameters()) for layer in layers or []]
        num_parameters = sum(p.numel() for p in model.parameters())
        state = state_bytes(optimizer, parameters, matrices=matrices, settings=optimizer_kwargs)
        length = min(length, getattr(text, "max_position_embeddings", None) or length)
        if is_recurrent(model):  # without their kernels, layers take token after token
            length = min(length, RECURRENT_LENGTH)
        held, peak = _traced(model, length, compute_dtype, len(in_layers))
    return Footprint(
        num_parameters=num_parameters,
        trained_parameters=sum(sizes),
        largest_parameter=max(sizes),
        largest_layer=max(in_layers, default=0),
        outside_layers=num_parameters - sum(in_layers),
        cast_parameters=_cast_parameters(model),
        optimizer_bytes=state,
        parameters_at_once=parameters_at_once(optimizer, parameters, matrices),
        held_per_token=held,
        peak_per_token=peak,
        vocab_size=text.vocab_size,
        kv_values=_kv_values(text),
    )


def _add_fake_lora(model: PreTrainedModel, lora: LoraSettings) -> None:
    # peft moves an adapter to its layer's device, which fake tensors do not bear, except from meta.
    with torch.device("meta"):
        add_lora(model, lora)
    for module in model.modules():
        for name, param in module.named_parameters(recurse=False):
            if param.is_meta:
                data = torch.empty_like(param, device="cpu")
                setattr(module, name, torch.nn.Parameter(data, param.requires_grad))


def _trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _layers(model: PreTrainedModel) -> torch.nn.ModuleList | None:
    """The decoder's layers."""
    number = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == number:
            return module
    return None


def _cast_parameters(model: PreTrainedModel) -> int:
    """Matrices that are multiplied with: all but an input embedding that is not the head too."""
    looked_up = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    return sum(
        p.numel()
        for p in _trained(model)
        if p.ndim > 1 and (p is not looked_up or (head is not None and head.weight is p))
    )


def _kv_values(text: PretrainedConfig) -> int:
    heads = text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    return int(2 * text.num_hidden_layers * kv_heads * head_dim)


def _traced(
    model: PreTrainedModel, length: int, compute_dtype: torch.dtype, num_layers: int
) -> tuple[float, float]:
    """Bytes a token that are held after the forward pass, and at most, without the LM head.

    They are what a second sequence adds to one, so that casts of the weights, which have a line of
    their own, drop out.
    """
    numbers = TRACED_LAYERS if num_layers > max(TRACED_LAYERS) else (num_layers,)
    slopes = []
    try:
        for number in numbers:
            with _only(model, number):
                one, two = (_trace_pass(model, (b, length), compute_dtype) for b in (1, 2))
            slopes.append([(b - a) / length for a, b in zip(one, two, strict=True)])
    except Exception as error:  # an architecture that fake tensors cannot go through
        logger.warning("preflight: activations are not estimated: %s", error)
        return 0.0, 0.0
    first, last = slopes[0], slopes[-1]
    more = num_layers - numbers[-1]
    held, peak = (b + more * (b - a) for a, b in zip(first, last, strict=True))
    return held, peak


@contextlib.contextmanager
def _only(model: PreTrainedModel, number: int) -> Iterator[None]:
    """Leaves the model its first layers only."""
    layers = _layers(model)
    if layers is None:
        yield
        return
    removed = list(layers)[number:]
    del layers[number:]
    try:
        yield
    finally:
        layers.extend(removed)


def _trace_pass(
    model: PreTrainedModel, shape: tuple[int, int], compute_dtype: torch.dtype
) -> tuple[int, int]:
    """Bytes held after the forward pass, and the most at once, for ids of shape (B, T)."""
    parameters = _trained(model.base_model)
    for param in parameters:
        param.grad = torch.empty_like(param)  # which gradients are added to, as in accumulation
    live = _LiveBytes()
    autocast = torch.autocast("cpu", compute_dtype, enabled=compute_dtype != torch.float32)
    ids = torch.zeros(shape, dtype=torch.long)
    with live:
        with autocast:
            hidden = model.base_model(input_ids=ids, use_cache=False)[0]
        held = live.bytes
        hidden.backward(torch.empty_like(hidden))
    for param in parameters:
        param.grad = None
    return held, live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made in it and still there."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        inputs = {id(s) for s in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if id(storage) not in inputs | self._known:
                size = storage.nbytes()
                self.bytes += size
                self.peak = max(self.peak, self.bytes)
                self._known.add(id(storage))
                weakref.finalize(storage, self._freed, id(storage), size)
        return out

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [t.untyped_storage() for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]
