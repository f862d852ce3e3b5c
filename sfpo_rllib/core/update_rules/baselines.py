"""The rules that others are compared with: passes, and nothing between them."""

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise ValueError(f"epochs={self.epochs!r}: must be an integer >= 1")

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        return [ctx.run_pass() for _ in range(self.epochs)]
