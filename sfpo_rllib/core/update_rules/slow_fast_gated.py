"""SFPO that stops: within a batch where a gradient surges, for good where its halves disagree."""

import math
from dataclasses import dataclass, field
from typing import Any

from sfpo_rllib.core.anchor import Anchor, products
from sfpo_rllib.core.checks import integer, none, number, value_problems
from sfpo_rllib.core.update_rules.passes import measured
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext
from sfpo_rllib.core.update_rules.slow_fast import SlowFast

HEAD_GRAD_NORM = "head_grad_norm"


@dataclass(frozen=True, repr=False)
class SlowFastGated(SlowFast):
    """`SlowFast` with two signals that stop it.

    The gradient of the output layer grows where reuse of a batch begins to do harm (DGG, arXiv
    2605.19425): the fast trajectory ends after the first pass in which its norm is more than
    `max_head_grad_growth` times that of the first pass. The other layers say less, and later.

    Where the slow step turns against the fast displacement, the fast trajectory has led astray
    (GXPO's authors gate by it): after `patience` such batches in a row every batch gets one plain
    pass, for good.

    Attributes:
        fast_steps: K >= 1, at most so many fast passes.
        max_head_grad_growth: Above 0. None: the fast trajectory always has K passes.
        min_cosine: In [-1, 1], of fast displacement and slow step. None: it is not looked at; else
            it takes another copy of the parameters.
        patience: Batches in a row below `min_cosine`.
    """

    max_head_grad_growth: float | None = 1.5
    min_cosine: float | None = None
    patience: int = 3
    _seen: dict[str, int] = field(
        default_factory=lambda: {"in_a_row": 0, "stopped": 0}, init=False, repr=False, compare=False
    )

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        kinds = {
            "max_head_grad_growth": number(above=0.0) | none("no gate"),
            "min_cosine": number(least=-1.0, most=1.0) | none("no gate"),
            "patience": integer(1),
        }
        return [*super().problems(), *value_problems(self, kinds)]

    @property
    def metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `UpdateRule`."""
        cosine = [] if self.min_cosine is None else ["fast_slow_cosine"]
        return (*SlowFast.metric_names, "fast_passes", *cosine)

    @property
    def pass_metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `UpdateRule`."""
        return () if self.max_head_grad_growth is None else (HEAD_GRAD_NORM,)

    @property
    def parameter_copies(self) -> int:  # type: ignore[override]
        """See `UpdateRule`."""
        return 1 if self.min_cosine is None else 2

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`.

        Raises:
            ValueError: If the passes do not measure a `head_grad_norm`, and it is looked at.
        """
        if self._seen["stopped"]:
            return [ctx.run_pass()]
        if self.alpha == 0.0:
            return super().update(ctx)
        with ctx.anchored() as start:
            results: list[PassResult] = []
            while len(results) < self.fast_steps and not self._surges(results):
                results.append(self.fast_pass(ctx, turn=len(results)))
            ctx.metrics.update(fast_passes=len(results), **vars(start.measure(self.alpha)))
            start.reposition(self.alpha)
            middle = None
            if self.min_cosine is not None:
                middle = Anchor(ctx.parameters, device=ctx.snapshot_device)
            results.append(self.slow_pass(ctx))
            if middle is not None:
                ctx.metrics["fast_slow_cosine"] = self._look_at(start, middle)
            return results

    def _surges(self, results: list[Any]) -> bool:
        """Whether the newest pass was one too many."""
        if self.max_head_grad_growth is None or len(results) < 2:
            return False
        first, newest = (
            measured(result, HEAD_GRAD_NORM, without="max_head_grad_growth: must be None")
            for result in (results[0], results[-1])
        )
        return newest > self.max_head_grad_growth * first

    def _look_at(self, start: Anchor, middle: Anchor) -> float:
        """The cosine of the steps before and after the middle; counts those that are too small."""
        fast, cross, slow = products(start, middle)
        cosine = cross / math.sqrt(fast * slow) if fast * slow > 0.0 else 0.0
        assert self.min_cosine is not None
        disagrees = fast * slow > 0.0 and cosine < self.min_cosine
        self._seen["in_a_row"] = self._seen["in_a_row"] + 1 if disagrees else 0
        self._seen["stopped"] = int(self._seen["in_a_row"] >= self.patience)
        return cosine

    def state_dict(self) -> dict[str, Any]:
        """Whether it has stopped, and how near it is."""
        return dict(self._seen)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        self._seen.update(state)
