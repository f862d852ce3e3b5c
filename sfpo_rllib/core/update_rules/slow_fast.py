"""SFPO's own rule."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sfpo_rllib.core.slow_fast import slow_fast_problems, slow_fast_update
from sfpo_rllib.core.update_rules.passes import FastSlowPasses
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext


@dataclass(frozen=True, repr=False)
class SlowFast(FastSlowPasses):
    """SFPO (arXiv 2510.04072): K fast passes, the way back, one slow pass.

    Attributes:
        fast_steps: K >= 1.
        alpha: In [0, 1], where between start (0) and end (1) of the fast trajectory the slow pass
            begins. 0 is `Single`, 1 is `MultiEpoch(K + 1)`.
        fast_minibatches: See `FastPasses`.
        fast_fraction: See `FastPasses`.
        slow_minibatches: See `FastSlowPasses`.
    """

    metric_names: ClassVar[tuple[str, ...]] = ("displacement_norm", "pull_back_norm")
    parameter_copies = 1
    fast_steps: int = 3
    alpha: float = 0.8

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        return [*slow_fast_problems(self.fast_steps, self.alpha), *super().problems()]

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        return self._update_after(ctx, ())

    def _update_after(
        self, ctx: UpdateContext[Batch, PassResult], recent: Sequence[Batch]
    ) -> list[PassResult]:
        """The update, whose fast trajectory first walks through earlier batches."""
        turns, walk = itertools.count(), iter(recent)
        return slow_fast_update(
            ctx.parameters,
            lambda: self.fast_pass(ctx, next(walk, None), turn=next(turns)),
            run_slow_pass=lambda: self.slow_pass(ctx),
            fast_steps=len(recent) + self.fast_steps,
            alpha=self.alpha,
            on_reposition=lambda measures: ctx.metrics.update(vars(measures)),
            snapshot_device=ctx.snapshot_device,
        )
