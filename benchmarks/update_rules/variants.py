"""What is compared: update rules with their settings."""

from dataclasses import dataclass

from sfpo_rllib.core import (
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateRule,
)

# SFPO's K and alpha for all seeds and tasks, chosen by the sweep on the grid's seeds.
FAST_STEPS = 3
ALPHA = 0.5


@dataclass(frozen=True)
class Variant:
    """A line in the plots.

    Attributes:
        rule: The update rule.
        label: What readers see.
        trigger: Whether the entropy trigger is on, w = 30 and Z = 1.
        like: The variant whose learning rate it takes, if it has no grid of its own.
    """

    rule: UpdateRule
    label: str
    trigger: bool = False
    like: str | None = None


BASELINE = "single"
VARIANTS: dict[str, Variant] = {
    "single": Variant(Single(), "GRPO"),
    "multi_epoch": Variant(MultiEpoch(4), "GRPO, 4 epochs"),
    "slow_fast": Variant(SlowFast(FAST_STEPS, ALPHA), f"SFPO, K={FAST_STEPS}, alpha={ALPHA}"),
    "slow_fast_paper": Variant(SlowFast(3, 0.8), "SFPO, K=3, alpha=0.8 (paper)"),
    "slow_fast_trigger": Variant(
        SlowFast(FAST_STEPS, ALPHA), "SFPO with the trigger", trigger=True, like="slow_fast"
    ),
    "lookahead": Variant(Lookahead(4, 0.5), "lookahead, K=4, alpha=0.5"),
    "extrapolated": Variant(Extrapolated(4, 0.5), "extrapolated, K=4, alpha=0.5"),
    "replay": Variant(SlowFastReplay(3, 1.0, 6), "plain replay, M=6"),
    "slow_fast_replay": Variant(SlowFastReplay(3, 0.3, 6), "slow-fast replay, M=6, alpha=0.3"),
}
