"""Update rules: how many passes over which batches, and what happens to the parameters between.

A rule knows neither loss nor policy. It is given an `UpdateContext`, whose `run_pass` takes the
optimizer steps of one pass, and may move the parameters itself. Objective and rollouts stay as
they are.
"""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch

from sfpo_rllib.core.anchor import Anchor, anchored, whole
from sfpo_rllib.core.slow_fast import check_alpha, check_fast_steps, slow_fast_update

Batch = TypeVar("Batch")
PassResult = TypeVar("PassResult")
_Batch = TypeVar("_Batch", contravariant=True)
_PassResult = TypeVar("_PassResult", covariant=True)


class RunPass(Protocol[_Batch, _PassResult]):
    """One pass over a batch: one or more optimizer steps."""

    def __call__(self, batch: _Batch | None = None) -> _PassResult:
        """Runs a pass over `batch`, or over the new batch if None."""
        ...


@dataclass
class UpdateContext(Generic[Batch, PassResult]):
    """What a rule has to work with in one update.

    Attributes:
        parameters: What is trained; a rule may change them in place.
        optimizers: Theirs. Almost always one: see `optimizer`.
        run_pass: Runs one pass over the new batch, `run_pass()`, or over one of `recent`.
        recent: Earlier batches, oldest first, at most `rule.history` of them. Their ratios are to
            the policies that they were sampled from.
        metrics: For what the rule measures; ends up in the results.
        snapshot_device: Where copies of the parameters are to be held; None: where they are.
    """

    parameters: Sequence[torch.Tensor]
    optimizers: Sequence[torch.optim.Optimizer]
    run_pass: RunPass[Batch, PassResult]
    recent: Sequence[Batch] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    snapshot_device: torch.device | str | None = None

    def anchored(self) -> AbstractContextManager[Anchor]:
        """Copies the parameters, as something to go back towards; see `anchored`."""
        return anchored(self.parameters, device=self.snapshot_device)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer.

        Raises:
            ValueError: If there are several.
        """
        if len(self.optimizers) != 1:
            raise ValueError(f"optimizer: there are {len(self.optimizers)}, use `optimizers`")
        return self.optimizers[0]


class UpdateRule(ABC):
    """What is done with one batch of rollouts.

    Attributes:
        history: How many earlier batches it wants in `ctx.recent`. They are held in memory and
            saved in checkpoints.
        first_pass_at_start: Whether its first pass is over the new batch, from the parameters as
            they were given. That pass then yields the ratio's denominators at no cost; for a rule
            that begins otherwise they are computed beforehand.
        metric_names: What it puts into `ctx.metrics`; 0 in updates that do not set it.
        parameter_copies: How many copies of the parameters it holds in an update, at most.
    """

    history: int = 0
    first_pass_at_start: ClassVar[bool] = True
    metric_names: ClassVar[tuple[str, ...]] = ()
    parameter_copies: ClassVar[int] = 0

    @abstractmethod
    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """Updates the parameters by passes over the new batch.

        Returns:
            What the passes returned, in order. The last one, over the new batch, is what the
            entropy trigger looks at.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the rule carries from update to update; ours carry nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (most have no state)
        """Goes on from `state_dict()`."""


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


@dataclass(frozen=True)
class SlowFast(UpdateRule):
    """SFPO (arXiv 2510.04072): K fast passes, the way back, one slow pass.

    Attributes:
        fast_steps: K >= 1.
        alpha: In [0, 1], where between start (0) and end (1) of the fast trajectory the slow pass
            begins. 0 is `Single`, 1 is `MultiEpoch(K + 1)`.
    """

    metric_names = ("displacement_norm", "pull_back_norm")
    parameter_copies = 1
    fast_steps: int = 3
    alpha: float = 0.8

    def __post_init__(self) -> None:
        check_fast_steps(self.fast_steps)
        check_alpha(self.alpha)

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        return slow_fast_update(
            ctx.parameters,
            ctx.run_pass,
            fast_steps=self.fast_steps,
            alpha=self.alpha,
            on_reposition=lambda measures: ctx.metrics.update(vars(measures)),
            snapshot_device=ctx.snapshot_device,
        )


@dataclass(frozen=True)
class Lookahead(UpdateRule):
    """K passes and the way back, without a slow pass (Lookahead, arXiv 1907.08610, per batch).

    Attributes:
        fast_steps: K >= 1.
        alpha: In (0, 1].
    """

    metric_names = SlowFast.metric_names
    parameter_copies = 1
    fast_steps: int = 3
    alpha: float = 0.8

    def __post_init__(self) -> None:
        check_fast_steps(self.fast_steps)
        check_alpha(self.alpha)
        if self.alpha == 0.0:
            raise ValueError("alpha=0.0: must be above 0, or no update would ever be kept")

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        with ctx.anchored() as start:
            results = [ctx.run_pass() for _ in range(self.fast_steps)]
            ctx.metrics.update(vars(start.measure(self.alpha)))
            start.reposition(self.alpha)
            return results


@dataclass(frozen=True)
class Extrapolated(UpdateRule):
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
    """

    metric_names = (*SlowFast.metric_names, "step_ratio")
    parameter_copies = 2
    fast_steps: int = 4
    alpha: float = 0.8

    def __post_init__(self) -> None:
        check_fast_steps(self.fast_steps, least=2)
        check_alpha(self.alpha)
        if self.alpha == 0.0:
            raise ValueError("alpha=0.0: must be above 0; for the plain algorithm use Single")

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        with ctx.anchored() as start:
            results = [ctx.run_pass()]
            middle = Anchor(ctx.parameters, device=ctx.snapshot_device)
            results.append(ctx.run_pass())
            ratio = min(max(_step_ratio(start, middle), 0.0), 1.0)
            middle.reposition(sum(ratio**k for k in range(self.fast_steps - 1)))
            del middle
            ctx.metrics.update(step_ratio=ratio, **vars(start.measure(self.alpha)))
            start.reposition(self.alpha)
            results.append(ctx.run_pass())
            return results


@torch.no_grad()
def _step_ratio(start: Anchor, middle: Anchor) -> float:
    """<d_0, d_1> / <d_0, d_0> of the steps start -> middle -> now; 1 if d_0 is 0."""
    cross = squared = 0.0
    for (param, mid), (_, origin) in zip(middle.pairs(), start.pairs(), strict=True):
        first = (mid - origin).float()
        cross += float(whole((first * (param - mid).float()).sum()))
        squared += float(whole(first.square().sum()))
    return cross / squared if squared > 0.0 else 1.0


@dataclass(frozen=True)
class SlowFastReplay(UpdateRule):
    """SFPO whose fast trajectory first walks once through the batches before this one.

    One pass over each of the last M - 1 batches, oldest first, K passes over the new one, the way
    back, and the slow pass over the new batch alone, which keeps the result anchored on-policy.
    Ratios of earlier batches are to the policies they were sampled from, and clipped as ever.

    Attributes:
        fast_steps: K >= 1.
        alpha: In [0, 1]. The longer the walk, the smaller. 1 is plain replay, 0 is `Single`.
        num_batches: M >= 1, the new one included. 1 is `SlowFast`.
    """

    metric_names = (*SlowFast.metric_names, "num_recent_batches")
    parameter_copies = 1
    first_pass_at_start = False
    fast_steps: int = 3
    alpha: float = 0.3
    num_batches: int = 6

    def __post_init__(self) -> None:
        check_fast_steps(self.fast_steps)
        check_alpha(self.alpha)
        m = self.num_batches
        if isinstance(m, bool) or not isinstance(m, int) or m < 1:
            raise ValueError(f"num_batches={m!r}: must be an integer >= 1")

    @property
    def history(self) -> int:  # type: ignore[override]
        """See `UpdateRule`."""
        return self.num_batches - 1

    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """See `UpdateRule.update`."""
        recent = ctx.recent if self.alpha > 0.0 else ()
        ctx.metrics["num_recent_batches"] = float(len(recent))
        walk = iter(recent)
        return slow_fast_update(
            ctx.parameters,
            lambda: ctx.run_pass(next(walk, None)),
            fast_steps=len(recent) + self.fast_steps,
            alpha=self.alpha,
            on_reposition=lambda measures: ctx.metrics.update(vars(measures)),
            snapshot_device=ctx.snapshot_device,
        )


UPDATE_RULES: dict[str, type[UpdateRule]] = {
    "single": Single,
    "multi_epoch": MultiEpoch,
    "slow_fast": SlowFast,
    "lookahead": Lookahead,
    "extrapolated": Extrapolated,
    "slow_fast_replay": SlowFastReplay,
}


def make_update_rule(rule: str | UpdateRule, **settings: Any) -> UpdateRule:
    """The rule of that name with `settings`, or the instance as it is.

    Raises:
        ValueError: If there is no such rule, it has no such setting, or one is out of range.
    """
    if isinstance(rule, UpdateRule):
        if settings:
            raise ValueError(f"update_rule={rule!r}: an instance takes no settings: {settings}")
        return rule
    if not isinstance(rule, str) or rule not in UPDATE_RULES:
        near = difflib.get_close_matches(str(rule), UPDATE_RULES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"update_rule={rule!r}: must be an UpdateRule or one of {sorted(UPDATE_RULES)}{hint}"
        )
    cls: Any = UPDATE_RULES[rule]
    known = [f.name for f in dataclasses.fields(cls)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{name}={settings[name]!r}: {rule!r} has only {known}")
    made: UpdateRule = cls(**settings)
    return made


def rule_name(rule: UpdateRule) -> str:
    """The name of one of our rules, the class's of another."""
    names = {cls: name for name, cls in UPDATE_RULES.items()}
    return names.get(type(rule), type(rule).__name__)
