"""Kin of SFPO: without the slow pass, with fewer passes, over earlier batches too."""

from dataclasses import dataclass, field

from sfpo_rllib.core.anchor import Anchor, products
from sfpo_rllib.core.checks import integer, none, number, one_of, value_problems
from sfpo_rllib.core.slow_fast import slow_fast_problems
from sfpo_rllib.core.update_rules.group_history import GroupReplay
from sfpo_rllib.core.update_rules.passes import FastPasses, FastSlowPasses
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, UpdateContext
from sfpo_rllib.core.update_rules.slow_fast import SlowFast


@dataclass(frozen=True, repr=False)
class Lookahead(FastPasses):
    """K passes and the way back, without a slow pass (Lookahead, arXiv 1907.08610, per batch).

    Attributes:
        fast_steps: K >= 1.
        alpha: In (0, 1].
        fast_minibatches: See `FastPasses`.
        fast_fraction: See `FastPasses`.
    """

    metric_names = SlowFast.metric_names
    parameter_copies = 1
    fast_steps: int = 3
    alpha: float = 0.8

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        problems = [*slow_fast_problems(self.fast_steps, self.alpha), *super().problems()]
        if self.alpha == 0.0:
            problems.append("alpha=0.0: must be above 0, or no update would ever be kept")
        return problems

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        with ctx.anchored() as start:
            results = [self.fast_pass(ctx, turn=k) for k in range(self.fast_steps)]
            ctx.metrics.update(vars(start.measure(self.alpha)))
            start.reposition(self.alpha)
            return results


@dataclass(frozen=True, repr=False)
class Extrapolated(FastSlowPasses):
    """Two fast passes stand for K: three passes in all, whatever K is.

    Where the loss is quadratic and the preconditioner constant, the steps of the fast trajectory
    follow d_{k+1} = A d_k with A = I - P H. Two passes give d_0 and d_1. Fitting A along d_0 by one
    number, r = <d_0, d_1> / <d_0, d_0>, the trajectory would end after K passes at

        theta_K = theta_1 + (1 + r + ... + r^(K-2)) d_1.

    r is held in [0, 1]: a trajectory that turns round is not followed back, and one that speeds
    up (as Adam's does while its moments build up) is continued in a straight line. From theta_K
    on it goes as in `SlowFast`. K = 2 is `SlowFast(2)`. The derivation is our own.

    Memory: two copies of the parameters.

    Attributes:
        fast_steps: K >= 2.
        alpha: In (0, 1].
        fast_minibatches: See `FastPasses`.
        fast_fraction: See `FastPasses`; here both fast passes are over the same groups, as their
            steps are compared.
        slow_minibatches: See `FastSlowPasses`.
    """

    metric_names = (*SlowFast.metric_names, "step_ratio")
    parameter_copies = 2
    fast_steps: int = 4
    alpha: float = 0.8

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        problems = [
            *slow_fast_problems(self.fast_steps, self.alpha, least_steps=2),
            *super().problems(),
        ]
        if self.alpha == 0.0:
            problems.append("alpha=0.0: must be above 0; for the plain algorithm use Single")
        return problems

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        with ctx.anchored() as start:
            results = [self.fast_pass(ctx)]
            middle = Anchor(ctx.parameters, device=ctx.snapshot_device)
            results.append(self.fast_pass(ctx))
            ratio = min(max(_step_ratio(start, middle), 0.0), 1.0)
            middle.reposition(sum(ratio**k for k in range(self.fast_steps - 1)))
            del middle
            ctx.metrics.update(step_ratio=ratio, **vars(start.measure(self.alpha)))
            start.reposition(self.alpha)
            results.append(self.slow_pass(ctx))
            return results


def _step_ratio(start: Anchor, middle: Anchor) -> float:
    """<d_0, d_1> / <d_0, d_0> of the steps start -> middle -> now; 1 if d_0 is 0."""
    squared, cross, _ = products(start, middle)
    return cross / squared if squared > 0.0 else 1.0


@dataclass(frozen=True, repr=False)
class SlowFastReplay(SlowFast):
    """SFPO whose fast trajectory first walks once through the batches before this one.

    One pass over each of the last M - 1 batches, oldest first, K passes over the new one, the way
    back, and the slow pass over the new batch alone, which keeps the result anchored on-policy.
    Ratios of earlier batches are to the policies they were sampled from, and clipped as ever.

    By group, single groups are kept instead: each of the M - 1 passes is over as many of them as a
    batch has, drawn from those of the last `max_age` batches in proportion to their mean
    |advantage|, which groups of equal rewards have none of.

    Attributes:
        fast_steps: K >= 1.
        alpha: In [0, 1]. The longer the walk, the smaller. 1 is plain replay, 0 is `Single`.
        num_batches: M >= 1, the new one included. 1 is `SlowFast`.
        by: What is replayed, "batch" or "group".
        max_age: By group, for how many batches a group is kept. None: M - 1.
        priority: By group, the power of its mean |advantage| that a group is drawn by; 0: all
            alike.
        fast_minibatches: See `FastPasses`; passes over earlier batches are fast ones.
    """

    metric_names = (*SlowFast.metric_names, "num_recent_batches")
    first_pass_at_start = False
    alpha: float = 0.3
    num_batches: int = 6
    by: str = field(default="batch", kw_only=True)
    max_age: int | None = field(default=None, kw_only=True)
    priority: float = field(default=1.0, kw_only=True)

    def problems(self) -> list[str]:
        """See `UpdateRule.problems`."""
        kinds = {
            "num_batches": integer(1),
            "by": one_of("batch", "group"),
            "max_age": integer(1, " (batches)") | none("num_batches - 1"),
            "priority": number(least=0.0),
        }
        problems = [*super().problems(), *value_problems(self, kinds)]
        if self.by == "batch":
            problems += [
                f"{name}={getattr(self, name)!r}: must be left out with by='batch'"
                for name, default in {"max_age": None, "priority": 1.0}.items()
                if getattr(self, name) != default
            ]
        return problems

    @property
    def group_replay(self) -> GroupReplay | None:  # type: ignore[override]
        """See `UpdateRule`."""
        if self.by == "batch":
            return None
        age = self.num_batches - 1 if self.max_age is None else self.max_age
        return GroupReplay(age, self.priority)

    @property
    def history(self) -> int:  # type: ignore[override]
        """See `UpdateRule`."""
        return self.num_batches - 1

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        recent = ctx.recent if self.alpha > 0.0 else ()
        ctx.metrics["num_recent_batches"] = float(len(recent))
        return self._update_after(ctx, recent)
