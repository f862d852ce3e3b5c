"""The rules that others are compared with: passes, and nothing between them."""

from dataclasses import dataclass

from sfpo_rllib.core.checks import integer, value_problems
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext, UpdateRule


@dataclass(frozen=True)
class Single(UpdateRule):
    """One pass: the plain algorithm."""

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        return [ctx.run_pass()]


@dataclass(frozen=True)
class MultiEpoch(UpdateRule):
    """Plain reuse of the batch: several passes, nothing between them.

    Attributes:
        epochs: Passes, at least 1. 4 are as many as `SlowFast` takes at K = 3.
    """

    epochs: int = 4

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        return value_problems(self, {"epochs": integer(1)})

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        return [ctx.run_pass() for _ in range(self.epochs)]
