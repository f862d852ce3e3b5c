"""Update rules: how many passes over which batches, and what happens to the parameters between.

A rule knows neither loss nor policy. It is given an `UpdateContext`, whose `run_pass` takes the
optimizer steps of one pass, and may move the parameters itself. Objective and rollouts stay as
they are.
"""

import dataclasses
from typing import Any

from sfpo_rllib.core.checks import nearest
from sfpo_rllib.core.update_rules.baselines import MultiEpoch, Single
from sfpo_rllib.core.update_rules.research import Extrapolated, Lookahead, SlowFastReplay
from sfpo_rllib.core.update_rules.rule import Batch, PassResult, RunPass, UpdateContext, UpdateRule
from sfpo_rllib.core.update_rules.slow_fast import SlowFast
from sfpo_rllib.core.update_rules.slow_fast_ess import SlowFastESS

__all__ = [
    "UPDATE_RULES",
    "Batch",
    "Extrapolated",
    "Lookahead",
    "MultiEpoch",
    "PassResult",
    "RunPass",
    "Single",
    "SlowFast",
    "SlowFastESS",
    "SlowFastReplay",
    "UpdateContext",
    "UpdateRule",
    "make_update_rule",
    "rule_name",
]

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
        raise ValueError(
            f"update_rule={rule!r}: must be an UpdateRule or one of {sorted(UPDATE_RULES)}"
            f"{nearest(rule, UPDATE_RULES)}"
        )
    cls: Any = UPDATE_RULES[rule]
    # What rules share comes last, as in their own arguments.
    known = [f.name for f in sorted(dataclasses.fields(cls), key=lambda f: f.kw_only is True)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{name}={settings[name]!r}: {rule!r} has only {known}")
    made: UpdateRule = cls(**settings)
    return made


def rule_name(rule: UpdateRule) -> str:
    """The name of one of our rules, the class's of another."""
    names = {cls: name for name, cls in UPDATE_RULES.items()}
    return names.get(type(rule), type(rule).__name__)
