"""SFPO for batches that are not quite of the policy that learns from them."""

import math
from dataclasses import dataclass
from typing import ClassVar

from sfpo_rllib.core.update_rules.passes import measured
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext
from sfpo_rllib.core.update_rules.slow_fast import SlowFast


@dataclass(frozen=True, repr=False)
class SlowFastESS(SlowFast):
    """`SlowFast` that goes less far on a batch that says less: by alpha * sqrt(ESS).

    ESS is the batch's effective sample size over its size, the `engine_ess` of the first pass: 1
    where the policy that sampled is the one that learns, and it is `SlowFast` to the bit; less the
    older the weights that sampled. VCPO (arXiv 2602.17616) scales the learning rate so; here it
    is the way back that the lag lengthens.

    Attributes:
        alpha: In [0, 1], of a batch whose ESS is 1.
    """

    metric_names: ClassVar[tuple[str, ...]] = (*SlowFast.metric_names, "scaled_alpha")

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`.

        Raises:
            ValueError: If the passes do not measure an `engine_ess`.
        """
        if self.alpha == 0.0:
            return super().update(ctx)
        with ctx.anchored() as start:
            results = [self.fast_pass(ctx, turn=k) for k in range(self.fast_steps)]
            share = measured(
                results[0], "engine_ess", without="update_rule=SlowFastESS: must be SlowFast"
            )
            alpha = self.alpha * math.sqrt(min(max(share, 0.0), 1.0))
            ctx.metrics.update(scaled_alpha=alpha, **vars(start.measure(alpha)))
            start.reposition(alpha)
            results.append(self.slow_pass(ctx))
            return results
