"""GXPO as its authors run it: the fast trajectory is extrapolated coordinate by coordinate."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from sfpo_rllib.core.anchor import Anchor, whole
from sfpo_rllib.core.checks import one_of, value_problems
from sfpo_rllib.core.slow_fast import slow_fast_problems
from sfpo_rllib.core.update_rules.passes import FastSlowPasses
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext
from sfpo_rllib.core.update_rules.slow_fast import SlowFast

_COORDINATE_RATIOS = (-2.0, 3.0)
_TENSOR_RATIOS = (-1.0, 1.0)
_SMALL = 1e-3  # coordinates whose first step is below this share of the tensor's are left alone


@dataclass(frozen=True, repr=False)
class GXPO(FastSlowPasses):
    """GXPO (arXiv 2605.06755 and the authors' code): two probes stand for K fast passes.

    With d_0 and d_1 the directions of the two probes, weight decay taken out, and r = d_1 / d_0,
    K passes would go S_K(r) / S_2(r) times as far as the probes went, S_n(r) = 1 + r + ... +
    r^(n-1). The slow pass begins at

        theta_0 + alpha * clamp(S_K(r) / S_2(r), 1, K / 2 + 1) * (theta_2 - theta_0).

    The authors do so in every mini-batch of PPO; here a probe is a fast pass over the batch. It
    differs from `Extrapolated`, which has one r for all parameters, held in [0, 1].

    Memory: two copies of the parameters, and with `moments="roll_back"` one of the optimizer's
    state.

    Attributes:
        fast_steps: K >= 2.
        alpha: In (0, 1].
        per: "coordinate": r of each weight, held in [-2, 3], 1 where d_0 is next to nothing.
            "tensor": r = <d_0, d_1> / <d_0, d_0> of each parameter, held in [-1, 1]: theirs for
            Muon.
        moments: "roll_back": the slow step is taken from the optimizer's state as it was before
            the probes. "keep": it runs through.
        fast_minibatches: See `FastPasses`.
        fast_fraction: See `FastPasses`; both probes are over the same groups.
        slow_minibatches: See `FastSlowPasses`.
    """

    metric_names = (*SlowFast.metric_names, "extrapolation")
    fast_steps: int = 10
    alpha: float = 0.3
    per: str = "coordinate"
    moments: str = "roll_back"

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        kinds = {"per": one_of("coordinate", "tensor"), "moments": one_of("roll_back", "keep")}
        problems = [
            *slow_fast_problems(self.fast_steps, self.alpha, least_steps=2),
            *value_problems(self, kinds),
            *super().problems(),
        ]
        if self.alpha == 0.0:
            problems.append("alpha=0.0: must be above 0; for the plain algorithm use Single")
        return problems

    @property
    def parameter_copies(self) -> int:  # type: ignore[override]
        """See `UpdateRule`: an Adam's state is two copies of the parameters."""
        return 4 if self.moments == "roll_back" else 2

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        before = [copy.deepcopy(o.state_dict()["state"]) for o in self._rolled_back(ctx)]
        with ctx.anchored() as start:
            with _steps(ctx.optimizers) as first_steps:
                results = [self.fast_pass(ctx)]
            middle = Anchor(ctx.parameters, device=ctx.snapshot_device)
            with _steps(ctx.optimizers) as second_steps:
                results.append(self.fast_pass(ctx))
            shares = _kept_by_decay(ctx.optimizers, first_steps, second_steps)
            ctx.metrics["extrapolation"] = self._extrapolate(start, middle, shares)
            del middle
            ctx.metrics.update(vars(start.measure(self.alpha)))
            start.reposition(self.alpha)
            for optimizer, state in zip(self._rolled_back(ctx), before, strict=True):
                optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
            results.append(self.slow_pass(ctx))
            return results

    def _rolled_back(self, ctx: UpdateContext[Any, Any]) -> list[torch.optim.Optimizer]:
        return list(ctx.optimizers) if self.moments == "roll_back" else []

    @torch.no_grad()
    def _extrapolate(
        self, start: Anchor, middle: Anchor, shares: dict[int, tuple[float, ...]]
    ) -> float:
        """Moves the parameters to where K passes would end; returns by what, on average."""
        total, count = 0.0, 0
        each = zip(middle.parameters, middle.pairs(), start.pairs(), strict=True)
        for param, (_, mid), (_, origin) in each:
            first_share, second_share = shares.get(id(param), (1.0, 1.0))
            first = (first_share * origin - mid).float()
            second = (second_share * mid - param).float()
            scale = self._scale(first, second)
            total += float(whole(scale.sum())) * (param.numel() / scale.numel())
            count += param.numel()
            param.copy_(origin + scale * (param - origin))
        return total / max(count, 1)

    def _scale(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """S_K(r) / S_2(r), of each coordinate or of the tensor."""
        square = float(whole(first.square().sum()))
        if self.per == "tensor":
            cross = whole((first * second).sum())
            return (
                self._lengthened((cross / square).clamp(*_TENSOR_RATIOS)) if square else cross + 1
            )
        small = first.abs() <= _SMALL * math.sqrt(square / first.numel())
        ratio = second / first.masked_fill(small, 1.0)
        return self._lengthened(ratio.clamp(*_COORDINATE_RATIOS)).masked_fill(small, 1.0)

    def _lengthened(self, ratio: torch.Tensor) -> torch.Tensor:
        """S_K(r) / S_2(r) within its bounds; 1 where it is 0 / 0."""
        length = torch.ones_like(ratio)
        for _ in range(self.fast_steps - 1):
            length = length * ratio + 1.0
        return (length / (1.0 + ratio)).nan_to_num(nan=1.0).clamp(1.0, self.fast_steps / 2 + 1)


@contextmanager
def _steps(optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[dict[int, int]]:
    """Fills with the number of steps that each optimizer takes in the body."""
    counts = {id(optimizer): 0 for optimizer in optimizers}

    def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        counts[id(optimizer)] += 1

    handles = [optimizer.register_step_post_hook(count) for optimizer in optimizers]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _kept_by_decay(
    optimizers: Sequence[torch.optim.Optimizer], *counts: dict[int, int]
) -> dict[int, tuple[float, ...]]:
    """What decoupled weight decay leaves of each parameter, by its id, in so many steps."""
    return {
        id(param): tuple(
            (1.0 - float(group["lr"]) * group["weight_decay"]) ** count[id(optimizer)]
            for count in counts
        )
        for optimizer in optimizers
        for group in optimizer.param_groups
        if group.get("decoupled_weight_decay") and group.get("weight_decay")
        for param in group["params"]
    }
