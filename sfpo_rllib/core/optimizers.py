"""Optimizers: ours by name or a user's own; how each is made, and what it costs."""

import contextlib
import importlib.util
import inspect
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from sfpo_rllib.core.checks import first_line, is_number, nearest
from sfpo_rllib.core.registry import argument_problems, imported, name_of, parameters_of

logger = logging.getLogger(__name__)

_FP32 = 4  # bytes
# What has a setting of its own, and what that is called.
_ELSEWHERE = {"lr": "lr", "betas": "adam_betas", "weight_decay": "weight_decay"}
BETAS, WEIGHT_DECAY = (0.9, 0.999), 0.01
# What must be off, and why.
_OFF = {
    "maximize": "the loss is descended",
    "capturable": "no step is captured in a CUDA graph",
    "differentiable": "no gradient is taken through a step",
}


@dataclass(frozen=True)
class OptimizerSpec:
    """How an optimizer is made, and what it costs.

    Attributes:
        make: A class or function, or the `"module:name"` of one. It is called with the parameters,
            the user's settings, and of `betas`, `weight_decay` and `matrices` (which of the
            parameters are hidden matrices) what it has arguments for.
        settings_of: Whose arguments the settings are. None: those of `make`.
        state_bytes: `(sizes of the parameters, settings) -> bytes` of its moments. None: it is
            asked to take a step on tensors without data.
        at_once: What a step on a GPU updates in one go, with a temporary each: all parameters,
            those that are no hidden matrices, or none.
        shardable: Whether it takes weights that are sharded over learners.
        paged: Whether its moments leave the device when that is full.
        decoupled: Whether its weight decay is decoupled, if its groups do not say so themselves.
    """

    make: str | Callable[..., Any]
    settings_of: Callable[..., Any] | None = None
    state_bytes: Callable[[Sequence[int], Mapping[str, Any]], int] | None = None
    at_once: Literal["all", "others", "none"] = "all"
    shardable: bool = True
    paged: bool = False
    decoupled: bool = False


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon on hidden matrices and AdamW on the rest, as one optimizer of up to two groups.

    One, so that a gradient norm is clipped, and a step with a gradient that is not finite skipped,
    over all parameters alike.
    """

    def __init__(
        self,
        matrices: list[torch.Tensor],
        others: list[torch.Tensor],
        *,
        betas: tuple[float, float] = BETAS,
        weight_decay: float = WEIGHT_DECAY,
        **muon_settings: Any,
    ) -> None:
        """Makes the two; either list may be empty.

        Args:
            matrices: Two-dimensional parameters, for Muon.
            others: The rest, for AdamW.
            betas: Of AdamW.
            weight_decay: Of both.
            muon_settings: Of `torch.optim.Muon`.
        """
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(
                torch.optim.Muon(matrices, weight_decay=weight_decay, **muon_settings)
            )
        if others:
            self._parts.append(torch.optim.AdamW(others, betas=betas, weight_decay=weight_decay))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Makes both parts work on this optimizer's groups and state."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def step(self, closure: Any = None) -> Any:
        """Takes one step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        super().load_state_dict(state_dict)
        self._share()


def hidden_matrices(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The two-dimensional parameters that are neither embeddings nor the head, each once."""
    outside: set[int] = set()
    for module in model.modules():
        outer = [module] if isinstance(module, torch.nn.Embedding) else []
        head: Any = getattr(module, "get_output_embeddings", None)  # transformers' name for it
        if head is not None:
            outer.append(head())
        outside |= {id(p) for layer in outer if layer is not None for p in layer.parameters()}
    return [p for p in model.parameters() if p.ndim == 2 and id(p) not in outside]


def _muon(
    parameters: Sequence[torch.Tensor],
    *,
    matrices: Iterable[torch.Tensor],
    betas: tuple[float, float],
    weight_decay: float,
    **settings: Any,
) -> MuonWithAdamW:
    chosen = {id(p) for p in matrices}
    return MuonWithAdamW(
        [p for p in parameters if id(p) in chosen],
        [p for p in parameters if id(p) not in chosen],
        betas=betas,
        weight_decay=weight_decay,
        # So that one learning rate is right for both parts.
        **{"adjust_lr_fn": "match_rms_adamw", **settings},
    )


def _eight_bit_state_bytes(sizes: Sequence[int], settings: Mapping[str, Any]) -> int:
    """Bytes of bitsandbytes' blockwise AdamW state for tensors of so many values each.

    Two moments of one byte a value, a float32 scale for each 256 of them, two code books of 256;
    tensors below `min_8bit_size` keep float32 moments.
    """
    least = settings.get("min_8bit_size", 4096)
    quantized = [n for n in sizes if n >= least]
    small = sum(n for n in sizes if n < least)
    code_books = 2 * 256 * _FP32 if quantized else 0
    return 2 * (sum(n + _FP32 * -(-n // 256) for n in quantized) + _FP32 * small) + code_books


_EIGHT_BIT = OptimizerSpec(
    "bitsandbytes.optim:AdamW8bit",
    state_bytes=_eight_bit_state_bytes,
    at_once="none",
    shardable=False,
    decoupled=True,
)
OPTIMIZERS = {
    "adamw": OptimizerSpec(torch.optim.AdamW),
    "adamw_8bit": _EIGHT_BIT,
    "paged_adamw_8bit": replace(_EIGHT_BIT, make="bitsandbytes.optim:PagedAdamW8bit", paged=True),
    "muon": OptimizerSpec(_muon, settings_of=torch.optim.Muon, at_once="others", decoupled=True),
    "sgd": OptimizerSpec(torch.optim.SGD),
}
Optimizer = str | OptimizerSpec | Callable[..., Any]


def optimizer_spec(optimizer: Optimizer) -> OptimizerSpec:
    """The optimizer of that name, or a user's own: a spec, or a class or function that makes it.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]
    if callable(optimizer):
        return OptimizerSpec(optimizer)
    if isinstance(optimizer, OptimizerSpec):
        return optimizer
    raise ValueError(
        f"optimizer={optimizer!r}: must be one of {list(OPTIMIZERS)}, or a class or function that "
        f"makes one{nearest(optimizer, OPTIMIZERS)}"
    )


def optimizer_name(optimizer: Optimizer) -> str:
    """A name as it is; of a user's own what its class or function is called."""
    return name_of(optimizer.make if isinstance(optimizer, OptimizerSpec) else optimizer)


def make_optimizer(
    optimizer: Optimizer,
    parameters: Iterable[torch.Tensor],
    *,
    matrices: Iterable[torch.Tensor] = (),
    betas: tuple[float, float] = BETAS,
    weight_decay: float = WEIGHT_DECAY,
    settings: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Makes an optimizer.

    Args:
        optimizer: One of `OPTIMIZERS`, or a user's own; see `optimizer_spec`.
        parameters: What is trained.
        matrices: Those of them that Muon takes; see `hidden_matrices`. AdamW takes the rest.
        betas: Of AdamW in all its forms.
        weight_decay: Decoupled, on all parameters; with SGD an L2 penalty.
        settings: More of the optimizer's own, e.g. `{"momentum": 0.9}`. With "muon", Muon's.

    Raises:
        ValueError: If there is no such optimizer, its package is not installed, it has no such
            setting, or one is out of range.
    """
    spec, name = optimizer_spec(optimizer), optimizer_name(optimizer)
    if not isinstance(settings, Mapping | None):
        raise ValueError(f"optimizer_kwargs={settings!r}: must be a dict")
    settings = dict(settings or {})
    _check_betas(betas)
    make = _imported(spec, name)
    own, (named, _) = spec.settings_of or make, parameters_of(make)
    hidden = (next(iter(parameters_of(own)[0]), ""), "matrices")  # the first is what is trained
    problems = argument_problems(
        "optimizer_kwargs", settings, own, name=name, elsewhere=_ELSEWHERE, hidden=hidden
    )
    if problem := next(problems, None):
        raise ValueError(problem)
    offered = {"betas": betas, "weight_decay": weight_decay, "matrices": matrices}
    if "lr" in named and named["lr"].default is inspect.Parameter.empty:
        offered["lr"] = 1e-3  # set before each batch
    arguments = {key: value for key, value in offered.items() if key in named}
    try:
        made = make(list(parameters), **arguments, **settings)
    except Exception as error:  # torch has several ways to refuse a value
        raise ValueError(f"optimizer_kwargs={settings!r}: {name!r} refuses it: {error}") from error
    if not isinstance(made, torch.optim.Optimizer):
        raise ValueError(f"optimizer={optimizer!r}: must make a torch.optim.Optimizer, not {made}")
    if spec.decoupled:
        for group in made.param_groups:
            group["decoupled_weight_decay"] = True  # as torch's AdamW says of itself
    return made


def optimizer_problems(
    optimizer: Optimizer, *, betas: Any, weight_decay: Any, settings: Any
) -> Iterator[str]:
    """What is wrong with an optimizer and its settings, as `field=value: what would be right`."""
    if not is_number(weight_decay, least=0.0):
        yield f"weight_decay={weight_decay!r}: must be a number >= 0"
    weight = torch.nn.Parameter(torch.zeros(1, 1))
    try:
        made = make_optimizer(
            optimizer, [weight], matrices=[weight], betas=betas, settings=settings
        )
    except ValueError as error:
        yield str(error)
        return
    yield from _step_problems(made, weight, optimizer, settings or {})
    named, _ = parameters_of(_imported(optimizer_spec(optimizer), ""))
    for key, value, default in (
        ("betas", tuple(betas), BETAS),
        ("weight_decay", weight_decay, WEIGHT_DECAY),
    ):
        if not isinstance(optimizer, str) and key not in named and value not in (default, 0):
            name = optimizer_name(optimizer)
            yield f"{_ELSEWHERE[key]}={value!r}: must be {default!r}, as {name!r} has no {key}"


def _step_problems(
    made: torch.optim.Optimizer,
    weight: torch.Tensor,
    optimizer: Optimizer,
    settings: Mapping[str, Any],
) -> Iterator[str]:
    """Which settings would break a step, or make it another than is meant."""
    wrong = []
    for key, value in settings.items():
        field = f"optimizer_kwargs[{key!r}]={value!r}"
        if key in _OFF and value:
            wrong.append(f"{field}: must be False, as {_OFF[key]}")
        elif isinstance(value, float) and not math.isfinite(value):
            wrong.append(f"{field}: must be a finite number")
    yield from wrong
    # A user's own may need more than one weight, and bitsandbytes' a GPU.
    ours = isinstance(optimizer, str) and optimizer_spec(optimizer).state_bytes is None
    if wrong or not ours:
        return
    weight.grad = torch.ones_like(weight)
    try:
        made.step()
    except Exception as error:  # torch looks at some values only now
        name = optimizer_name(optimizer)
        why = first_line(error) or type(error).__name__
        yield f"optimizer_kwargs={dict(settings)!r}: {name!r} refuses it in a step: {why}"


def state_bytes(
    optimizer: Optimizer,
    parameters: Sequence[torch.Tensor],
    *,
    matrices: Iterable[torch.Tensor] = (),
    settings: Mapping[str, Any] | None = None,
) -> int:
    """Bytes of an optimizer's moments. Step counters, 4 bytes a tensor, are left out.

    Args:
        optimizer: See `make_optimizer`.
        parameters: What is trained, as fake tensors. Their gradients are lost.
        matrices: See `make_optimizer`.
        settings: See `make_optimizer`.
    """
    spec = optimizer_spec(optimizer)
    if spec.state_bytes is not None:
        return spec.state_bytes([p.numel() for p in parameters], settings or {})
    # Others of its shape have as many moments: of 339 tensors some 10 are asked.
    are_matrices = {id(p) for p in matrices}
    kinds = [(p.shape, p.dtype, id(p) in are_matrices) for p in parameters]
    number, one = Counter(kinds), dict(zip(kinds, parameters, strict=True))
    matrices = [p for p in one.values() if id(p) in are_matrices]
    made = make_optimizer(optimizer, [*one.values()], matrices=matrices, settings=settings)
    for param in one.values():
        param.grad = torch.empty_like(param)
    try:
        made.step()  # which allocates them
    except Exception as error:  # it looks at values
        name = optimizer_name(optimizer)
        logger.warning("preflight: %s's state is taken to be AdamW's: %s", name, error)
        return 2 * sum(p.nbytes for p in parameters)
    finally:
        for param in one.values():
            param.grad = None
    return sum(
        number[kind] * t.nbytes
        for kind, param in one.items()
        for t in made.state.get(param, {}).values()
        if isinstance(t, torch.Tensor) and t.ndim > 0
    )


def parameters_at_once(
    optimizer: Optimizer, parameters: Iterable[torch.Tensor], matrices: Iterable[torch.Tensor]
) -> int:
    """Values that a step on a GPU updates in one go."""
    at_once = optimizer_spec(optimizer).at_once
    left_out = {id(p) for p in (matrices if at_once == "others" else ())}
    return sum(p.numel() for p in parameters if at_once != "none" and id(p) not in left_out)


@contextlib.contextmanager
def keeping_settings(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Of a state loaded in the body, takes moments and step counts alone.

    The settings of the groups, which torch's states have too, stay those that the optimizer was
    made with: learning rate, betas, weight decay, momentum and all others.
    """
    settings = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    yield
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        for key in group.keys() - own.keys() - {"params"}:
            del group[key]
        group.update(own)
        if not own.get("amsgrad"):
            continue
        for param in group["params"]:  # it was off until now
            state = optimizer.state.get(param, {})
            if "exp_avg_sq" in state:
                state.setdefault("max_exp_avg_sq", state["exp_avg_sq"].clone())


REQUIREMENTS = {"bitsandbytes": "bitsandbytes>=0.50"}  # what to install, by package


def _imported(spec: OptimizerSpec, name: str) -> Callable[..., Any]:
    """What makes the optimizer."""
    if not isinstance(spec.make, str):
        return spec.make
    package = spec.make.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"optimizer={name!r}: {package} is not installed; pip install "
            f"'{REQUIREMENTS.get(package, package)}', or use optimizer='adamw'"
        )
    made: Callable[..., Any] = imported(spec.make)
    return made


def _check_betas(betas: Any) -> None:
    pair = isinstance(betas, list | tuple) and len(betas) == 2
    if not pair or not all(is_number(beta, least=0.0) and beta < 1 for beta in betas):
        raise ValueError(f"adam_betas={betas!r}: must be two numbers in [0, 1)")
