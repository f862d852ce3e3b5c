"""Optimizers by name: AdamW, its 8-bit forms, Muon, SGD."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "muon", "sgd")
_BITSANDBYTES = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
# What has a setting of its own, and what that is called.
_RESERVED = {"lr": "lr", "betas": "adam_betas", "weight_decay": "weight_decay", "params": None}


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
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
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


def make_optimizer(
    name: str,
    parameters: Iterable[torch.Tensor],
    *,
    matrices: Iterable[torch.Tensor] = (),
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    settings: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """The optimizer of that name.

    Args:
        name: One of `OPTIMIZERS`.
        parameters: What is trained.
        matrices: Those of them that Muon takes; see `hidden_matrices`. AdamW takes the rest.
        betas: Of AdamW in all its forms.
        weight_decay: Decoupled, on all parameters; with SGD an L2 penalty.
        settings: More of the optimizer's own, e.g. `{"momentum": 0.9}`. With "muon", Muon's.

    Raises:
        ValueError: If there is no such optimizer, its package is not installed, it has no such
            setting, or one is out of range.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer={name!r}: must be one of {list(OPTIMIZERS)}{_nearest(name, OPTIMIZERS)}"
        )
    if not isinstance(settings, Mapping | None):
        raise ValueError(f"optimizer_kwargs={settings!r}: must be a dict")
    settings = dict(settings or {})
    _check_betas(betas)
    cls = _optimizer_class(name)
    _check_settings(name, cls, settings)
    parameters = list(parameters)
    try:
        if name == "sgd":
            return torch.optim.SGD(parameters, weight_decay=weight_decay, **settings)
        if name != "muon":
            made = cls(parameters, betas=betas, weight_decay=weight_decay, **settings)
            assert isinstance(made, torch.optim.Optimizer)
            return made
        # So that one learning rate is right for both parts.
        settings.setdefault("adjust_lr_fn", "match_rms_adamw")
        chosen = {id(p) for p in matrices}
        return MuonWithAdamW(
            [p for p in parameters if id(p) in chosen],
            [p for p in parameters if id(p) not in chosen],
            betas=betas,
            weight_decay=weight_decay,
            **settings,
        )
    except (ValueError, TypeError, RuntimeError) as error:  # torch's ways to refuse a value
        raise ValueError(f"optimizer_kwargs={settings!r}: {name!r} refuses it: {error}") from error


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


def _optimizer_class(name: str) -> Callable[..., Any]:
    if name not in _BITSANDBYTES:
        return {"adamw": torch.optim.AdamW, "muon": torch.optim.Muon, "sgd": torch.optim.SGD}[name]
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"optimizer={name!r}: bitsandbytes is not installed; pip install "
            "'sfpo-rllib[bitsandbytes]', or use optimizer='adamw'"
        )
    made: Callable[..., Any] = getattr(
        importlib.import_module("bitsandbytes.optim"), _BITSANDBYTES[name]
    )
    return made


def _check_betas(betas: Any) -> None:
    pair = isinstance(betas, list | tuple) and len(betas) == 2
    if not pair or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas):
        raise ValueError(f"adam_betas={betas!r}: must be two numbers in [0, 1)")


def _check_settings(name: str, cls: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    known = [key for key in inspect.signature(cls).parameters if key not in _RESERVED]
    for key, value in settings.items():
        field = f"optimizer_kwargs[{key!r}]={value!r}"
        if _RESERVED.get(key):
            raise ValueError(f"{field}: set {_RESERVED[key]} instead")
        if key not in known:
            raise ValueError(f"{field}: {name!r} has only {sorted(known)}{_nearest(key, known)}")


def _nearest(name: Any, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
