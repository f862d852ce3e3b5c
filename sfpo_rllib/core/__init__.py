"""The policy-agnostic core: torch only, no ray, no language models."""

from sfpo_rllib.core.advantages import group_relative_advantages
from sfpo_rllib.core.anchor import Anchor, Reposition, anchored
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.losses import clipped_surrogate_loss, token_weights
from sfpo_rllib.core.slow_fast import slow_fast_update
from sfpo_rllib.core.update_rules import (
    UPDATE_RULES,
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateContext,
    UpdateRule,
    make_update_rule,
)
from sfpo_rllib.core.updater import Updater

__all__ = [
    "UPDATE_RULES",
    "Anchor",
    "EntropyTrigger",
    "Extrapolated",
    "Lookahead",
    "MultiEpoch",
    "Reposition",
    "Single",
    "SlowFast",
    "SlowFastReplay",
    "UpdateContext",
    "UpdateRule",
    "Updater",
    "anchored",
    "clipped_surrogate_loss",
    "group_relative_advantages",
    "make_update_rule",
    "slow_fast_update",
    "token_weights",
]
