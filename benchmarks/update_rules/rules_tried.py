"""Update rules that were tried and are not in the package: each a rule of a user's own."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch

from sfpo_rllib.core import UpdateContext, UpdateRule
from sfpo_rllib.core.update_rules import Batch, PassResult


@dataclass(frozen=True)
class SlowFastMoments(UpdateRule):
    """SFPO that touches the optimizer's moments where it repositions.

    Attributes:
        fast_steps: K.
        alpha: Where the slow pass begins.
        moments: "rewind": as they were before the fast passes. "reset": as if never trained.
    """

    fast_steps: int = 3
    alpha: float = 0.5
    moments: Literal["rewind", "reset"] = "rewind"

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        before = copy.deepcopy(ctx.optimizer.state_dict()["state"])
        with ctx.anchored() as start:
            results = [ctx.run_pass() for _ in range(self.fast_steps)]
            start.reposition(self.alpha)
            state = ctx.optimizer.state_dict()
            state["state"] = before if self.moments == "rewind" else {}
            ctx.optimizer.load_state_dict(state)
            results.append(ctx.run_pass())
            return results


@dataclass(frozen=True)
class MeanOfTrajectory(UpdateRule):
    """K passes, then to the mean of the points they went through, then one more pass.

    Attributes:
        fast_steps: K.
    """

    fast_steps: int = 7

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        with ctx.anchored() as start:
            means = [torch.zeros_like(param) for param in start.parameters]
            results = []
            for _ in range(self.fast_steps):
                results.append(ctx.run_pass())
                for mean, param in zip(means, start.parameters, strict=True):
                    mean.add_(param.detach(), alpha=1.0 / self.fast_steps)
            with torch.no_grad():
                for mean, param in zip(means, start.parameters, strict=True):
                    param.copy_(mean)
            results.append(ctx.run_pass())
            return results
