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
        origin: Where they were, in the same order.
    """

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        """Copies the parameters. A tensor given twice (tied weights) counts once.

        Raises:
            ValueError: If one is not floating point.
        """
        self.parameters = list({id(p): p for p in parameters}.values())
        for param in self.parameters:
            if not param.is_floating_point():
                raise ValueError(f"parameters: dtype {param.dtype}, must be floating point")
        self.origin = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def reposition(self, alpha: float) -> None:
        """Moves the parameters theta to origin + alpha * (theta - origin): back, or beyond 1 on."""
        for param, origin in zip(self.parameters, self.origin, strict=True):
            param.lerp_(origin, 1.0 - alpha)  # a weight of 0 leaves alpha = 1 exact

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the parameters back where they were."""
        for param, origin in zip(self.parameters, self.origin, strict=True):
            param.copy_(origin)

    @torch.no_grad()
    def measure(self, alpha: float) -> Reposition:
        """What `reposition(alpha)` would do from here."""
        squared = 0.0
        for param, origin in zip(self.parameters, self.origin, strict=True):
            # float32 at least: the difference of two bf16 weights has few digits as it is.
            dtype = torch.promote_types(param.dtype, torch.float32)
            norm = torch.linalg.vector_norm(param - origin, dtype=dtype)
            squared += float(whole(norm)) ** 2
        displacement = math.sqrt(squared)
        return Reposition(displacement, (1.0 - alpha) * displacement)


@contextlib.contextmanager
def anchored(parameters: Iterable[torch.Tensor]) -> Iterator[Anchor]:
    """Anchors the parameters, and puts them back if the body raises."""
    anchor = Anchor(parameters)
    try:
        yield anchor
    except BaseException:
        anchor.restore()
        raise


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A DTensor's reduction is a partial one until it is gathered."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
