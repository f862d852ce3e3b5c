"""The point that an update starts from: to go back towards, and to fall back to on an error."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Reposition:
    """What a way back towards the start did.

    Attributes:
        displacement_norm: L2 norm of the fast trajectory, |theta^{s,K} - theta^{s,0}|.
        pull_back_norm: L2 norm of the way back, (1 - alpha) * displacement_norm.
    """

    displacement_norm: float
    pull_back_norm: float


class Anchor:
    """One copy of the parameters, as they were.

    Its methods need no other temporary that is larger than one parameter. DTensors may stand
    beside plain tensors.

    Attributes:
        parameters: The parameters, each once.
    """

    def __init__(
        self, parameters: Iterable[torch.Tensor], *, device: torch.device | str | None = None
    ) -> None:
        """Copies the parameters. A tensor given twice (tied weights) counts once.

        Args:
            parameters: Floating-point tensors.
            device: Where the copy is held: "cpu" spares a GPU's memory and costs three transfers
                of the parameters an update. None: where each parameter is.

        Raises:
            ValueError: If one is not floating point.
        """
        self.parameters = list({id(p): p for p in parameters}.values())
        for param in self.parameters:
            if not param.is_floating_point():
                raise ValueError(f"parameters: dtype {param.dtype}, must be floating point")
        # A DTensor's mesh has one kind of device: elsewhere its local shard is held.
        self._origin = [
            p.detach().clone() if device is None else local(p).detach().to(device, copy=True)
            for p in self.parameters
        ]

    def pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each parameter and where it was, on the parameter's device, both to be read only."""
        for param, origin in zip(self.parameters, self._origin, strict=True):
            yield param.detach(), _like(param, origin)

    @torch.no_grad()
    def reposition(self, alpha: float) -> None:
        """Moves the parameters theta to origin + alpha * (theta - origin): back, or beyond 1 on."""
        for param, origin in zip(self.parameters, self._origin, strict=True):
            param.lerp_(_like(param, origin), 1.0 - alpha)  # a weight of 0 leaves alpha = 1 exact

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the parameters back where they were."""
        for param, origin in zip(self.parameters, self._origin, strict=True):
            param.copy_(_like(param, origin))

    @torch.no_grad()
    def measure(self, alpha: float) -> Reposition:
        """What `reposition(alpha)` would do from here."""
        squared = 0.0
        for param, origin in self.pairs():
            # float32 at least: the difference of two bf16 weights has few digits as it is.
            dtype = torch.promote_types(param.dtype, torch.float32)
            norm = torch.linalg.vector_norm(param - origin, dtype=dtype)
            squared += float(whole(norm)) ** 2
        displacement = math.sqrt(squared)
        return Reposition(displacement, (1.0 - alpha) * displacement)


@contextlib.contextmanager
def anchored(
    parameters: Iterable[torch.Tensor], *, device: torch.device | str | None = None
) -> Iterator[Anchor]:
    """Anchors the parameters, see `Anchor`, and puts them back if the body raises."""
    anchor = Anchor(parameters, device=device)
    try:
        yield anchor
    except BaseException:
        anchor.restore()
        raise


@torch.no_grad()
def products(start: Anchor, middle: Anchor) -> tuple[float, float, float]:
    """<a, a>, <a, b> and <b, b> of the steps a from start to middle, and b from there to now."""
    first_squared = cross = second_squared = 0.0
    for (param, mid), (_, origin) in zip(middle.pairs(), start.pairs(), strict=True):
        first, second = (mid - origin).float(), (param - mid).float()
        first_squared += float(whole(first.square().sum()))
        cross += float(whole((first * second).sum()))
        second_squared += float(whole(second.square().sum()))
    return first_squared, cross, second_squared


def versions(parameters: Iterable[torch.Tensor]) -> list[int]:
    """How often each was changed in place: other numbers than before say that one has moved."""
    return [param._version for param in parameters]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A DTensor's reduction is a partial one until it is gathered."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """A DTensor's shard on this process; a plain tensor as it is."""
    shard: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return shard


def _like(param: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """The copy as the parameter's kind of tensor, on its device."""
    origin = origin.to(param.device)
    if not hasattr(param, "to_local") or hasattr(origin, "to_local"):
        return origin
    from torch.distributed.tensor import DTensor

    assert isinstance(param, DTensor)
    return DTensor.from_local(
        origin, param.device_mesh, param.placements, shape=param.shape, stride=param.stride()
    )
