"""The policy-agnostic core: torch only, no ray, no language models."""

from sfpo_rllib.core.advantages import ADVANTAGES, group_relative_advantages
from sfpo_rllib.core.anchor import Anchor, Reposition, anchored
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.importance import engine_importance
from sfpo_rllib.core.losses import (
    LOSSES,
    ClipRange,
    LossInputs,
    PolicyLoss,
    make_loss,
    token_weights,
)
from sfpo_rllib.core.objective import Objective, kl_estimate
from sfpo_rllib.core.optimizers import OptimizerSpec
from sfpo_rllib.core.slow_fast import slow_fast_update
from sfpo_rllib.core.update_rules import (
    GXPO,
    UPDATE_RULES,
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastESS,
    SlowFastGated,
    SlowFastReplay,
    UpdateContext,
    UpdateRule,
    make_update_rule,
)
from sfpo_rllib.core.updater import Updater

__all__ = [
    "ADVANTAGES",
    "GXPO",
    "LOSSES",
    "UPDATE_RULES",
    "Anchor",
    "ClipRange",
    "EntropyTrigger",
    "Extrapolated",
    "Lookahead",
    "LossInputs",
    "MultiEpoch",
    "Objective",
    "OptimizerSpec",
    "PolicyLoss",
    "Reposition",
    "Single",
    "SlowFast",
    "SlowFastESS",
    "SlowFastGated",
    "SlowFastReplay",
    "UpdateContext",
    "UpdateRule",
    "Updater",
    "anchored",
    "engine_importance",
    "group_relative_advantages",
    "kl_estimate",
    "make_loss",
    "make_update_rule",
    "slow_fast_update",
    "token_weights",
]
