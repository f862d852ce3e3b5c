"""Update rules of somebody else; torch and the core are all they need."""

from typing import Any

import torch

from sfpo_rllib.core import Anchor, UpdateContext, UpdateRule


class HeavyBall(UpdateRule):
    """After its one pass, goes on by a share of the way that the update before this one went."""

    metric_names = ("velocity_norm",)

    def __init__(self, momentum: float = 0.5) -> None:
        self.momentum = momentum
        self.velocity: list[torch.Tensor] = []

    def update(self, ctx: UpdateContext) -> list[Any]:
        """See `UpdateRule.update`."""
        start = Anchor(ctx.parameters)
        results = [ctx.run_pass()]
        with torch.no_grad():
            for param, velocity in zip(start.parameters, self.velocity, strict=False):
                param.add_(velocity, alpha=self.momentum)
            self.velocity = [param - origin for param, origin in start.pairs()]
        ctx.metrics["velocity_norm"] = start.measure(1.0).displacement_norm
        return results

    def state_dict(self) -> dict[str, Any]:
        """See `UpdateRule.state_dict`."""
        return {"velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `UpdateRule.load_state_dict`."""
        self.velocity = list(state["velocity"])


class Nudged(UpdateRule):
    """Moves the parameters before its passes, and is wrong about that."""

    def update(self, ctx: UpdateContext) -> list[Any]:
        """See `UpdateRule.update`."""
        with torch.no_grad():
            for param in ctx.parameters:
                param.mul_(1.1)
        return [ctx.run_pass(), ctx.run_pass()]


class HonestlyNudged(Nudged):
    """Says so."""

    first_pass_at_start = False
