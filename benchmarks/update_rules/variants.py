"""What is compared: update rules with their settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfpo_rllib.core import (
    GXPO,
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateRule,
)

# SFPO's K and alpha for all seeds, tasks and rates: chosen by the sweep, on the grid's seeds.
FAST_STEPS = 7
ALPHA = 0.3


@dataclass(frozen=True)
class Variant:
    """A line in the plots.

    Attributes:
        rule: The update rule.
        label: What readers see.
        trigger: Whether the entropy trigger is on, w = 30 and Z = 1.
        like: The variant whose learning rate it takes, if it has no grid of its own.
        conservative: Whether it is run at the smallest common rate alone, for which its settings
            were chosen, on the grid's task.
        minibatches: Optimizer steps a pass.
        optimizer: Its name.
        warm_up_steps: Optimizer steps that the rate is warmed up over, instead of batches.
        max_staleness: So many updates the sampling weights are behind; above 0 a runner samples
            while the learner learns.
        settings: More of `training()`.
    """

    rule: UpdateRule
    label: str
    trigger: bool = False
    like: str | None = None
    conservative: bool = False
    minibatches: int = 1
    optimizer: str = "adamw"
    warm_up_steps: int = 0
    max_staleness: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """Rule and settings, for the record."""
        parts = [repr(self.rule)]
        if self.minibatches > 1:
            parts.append(f"{self.minibatches} mini-batches")
        if self.max_staleness > 0:
            parts.append(f"max_staleness={self.max_staleness}")
        if self.optimizer != "adamw":
            parts.append(self.optimizer)
        if self.warm_up_steps:
            parts.append(f"{self.warm_up_steps} warm-up steps")
        parts += [f"{name}={value}" for name, value in self.settings.items()]
        return ", ".join(parts)

    @property
    def passes(self) -> float:
        """How often a batch is gone through, once the rule's history is full."""
        rule = self.rule
        share = getattr(rule, "fast_fraction", 1.0)
        if isinstance(rule, Extrapolated | GXPO):
            return 2 * share + 1
        fast = getattr(rule, "epochs", getattr(rule, "fast_steps", 0)) + rule.history
        return fast * share + (not isinstance(rule, MultiEpoch | Lookahead))


def _like_sfpo(name: str) -> str:
    return f"{name}, K={FAST_STEPS}, alpha={ALPHA}"


BASELINE = "single"
VARIANTS: dict[str, Variant] = {
    "single": Variant(Single(), "GRPO"),
    "multi_epoch": Variant(MultiEpoch(FAST_STEPS + 1), f"GRPO, {FAST_STEPS + 1} epochs"),
    "slow_fast": Variant(SlowFast(FAST_STEPS, ALPHA), _like_sfpo("SFPO")),
    "slow_fast_paper": Variant(SlowFast(3, 0.8), "SFPO, K=3, alpha=0.8 (paper)"),
    "slow_fast_trigger": Variant(
        SlowFast(FAST_STEPS, ALPHA), _like_sfpo("SFPO, trigger on"), trigger=True, like="slow_fast"
    ),
    "lookahead": Variant(
        Lookahead(FAST_STEPS + 1, ALPHA), f"lookahead, K={FAST_STEPS + 1}, alpha={ALPHA}"
    ),
    "extrapolated": Variant(Extrapolated(FAST_STEPS, ALPHA), _like_sfpo("extrapolated")),
    "replay": Variant(SlowFastReplay(3, 1.0, 6), "plain replay, M=6"),
    "slow_fast_replay": Variant(SlowFastReplay(3, 0.3, 6), "slow-fast replay, M=6, alpha=0.3"),
    "slow_fast_far": Variant(SlowFast(23, 0.8), "SFPO, K=23, alpha=0.8", conservative=True),
    "slow_fast_replay_far": Variant(
        SlowFastReplay(3, 0.8, 12), "slow-fast replay, M=12, alpha=0.8", conservative=True
    ),
}
