"""Passes with mini-batches of their own: settings that rules with a fast trajectory share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sfpo_rllib.core.checks import integer, none, number, value_problems
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext, UpdateRule

PASS_SETTINGS = ("fast_minibatches", "fast_fraction", "slow_minibatches")
_NUM_MINIBATCHES = integer(1) | none("as many as the config says")


@dataclass(frozen=True, kw_only=True, repr=False)
class FastPasses(UpdateRule):
    """A rule whose fast passes may be cut otherwise than the config says.

    Attributes:
        fast_minibatches: Optimizer steps of a fast pass. None: `minibatches_per_pass`.
        fast_fraction: Share of the batch's groups that a fast pass is over, in (0, 1]. Fast passes
            take turns: the next one goes on where the last one ended. It has as many mini-batches
            as a pass over all groups would have.
    """

    fast_minibatches: int | None = None
    fast_fraction: float = 1.0

    @property
    def pass_settings(self) -> Mapping[str, Any]:
        """See `UpdateRule`."""
        own = {f.name: f.default for f in fields(self) if f.name in PASS_SETTINGS}
        return {n: getattr(self, n) for n, default in own.items() if getattr(self, n) != default}

    def __repr__(self) -> str:
        given = [
            f
            for f in fields(self)
            if f.repr and (not f.kw_only or getattr(self, f.name) != f.default)
        ]
        given.sort(key=lambda f: f.kw_only is True)  # stable
        shown = [f"{f.name}={getattr(self, f.name)!r}" for f in given]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        kinds = {
            "fast_minibatches": _NUM_MINIBATCHES,
            "fast_fraction": number(above=0.0, most=1.0),
            "slow_minibatches": _NUM_MINIBATCHES,
        }
        return value_problems(self, {n: kind for n, kind in kinds.items() if hasattr(self, n)})

    def fast_pass(
        self, ctx: UpdateContext[Batch, PassResult], batch: Batch | None = None, *, turn: int = 0
    ) -> PassResult:
        """Runs a fast pass.

        Args:
            ctx: Of the update.
            batch: See `RunPass`.
            turn: See `RunPass`.
        """
        cut: dict[str, Any] = {}
        if self.fast_minibatches is not None:
            cut["num_minibatches"] = self.fast_minibatches
        if self.fast_fraction < 1.0:
            cut |= {"fraction": self.fast_fraction, "turn": turn}
        return ctx.run_pass(**cut) if batch is None else ctx.run_pass(batch, **cut)


@dataclass(frozen=True, kw_only=True, repr=False)
class FastSlowPasses(FastPasses):
    """A rule with a slow pass, too, which may be cut otherwise as well.

    Attributes:
        slow_minibatches: Optimizer steps of the slow pass. None: `minibatches_per_pass`.
    """

    slow_minibatches: int | None = None

    def slow_pass(self, ctx: UpdateContext[Batch, PassResult]) -> PassResult:
        """Runs the slow pass, over the whole new batch."""
        if self.slow_minibatches is None:
            return ctx.run_pass()
        return ctx.run_pass(num_minibatches=self.slow_minibatches)


def measured(result: object, name: str, *, without: str) -> float:
    """What a pass has measured; 0 if no token of it counts, which measures nothing.

    Args:
        result: Of the pass.
        name: Of the metric.
        without: What must be set otherwise with passes that do not measure it.

    Raises:
        ValueError: If the pass does not.
    """
    if isinstance(result, Mapping):
        if name in result:
            return float(result[name])
        if math.isnan(result.get("entropy", 0.0)):
            return 0.0
    raise ValueError(
        f"{without} with passes that measure no {name}, as those of learners other than GRPO's"
    )
