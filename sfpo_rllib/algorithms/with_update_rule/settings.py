"""The settings in the learner config, `config.learner_config_dict["sfpo"]`, and what they make."""

import copy
import dataclasses
from typing import Any

from sfpo_rllib.core.checks import raise_problems
from sfpo_rllib.core.entropy_trigger import EntropyTrigger, trigger_problems
from sfpo_rllib.core.update_rules import UPDATE_RULES, UpdateRule, make_update_rule, rule_name
from sfpo_rllib.core.update_rules.passes import PASS_SETTINGS
from sfpo_rllib.core.updater import Updater

SETTINGS = "sfpo"
_TRIGGER = ("entropy_window", "entropy_z_threshold")
NO_POLICY = (
    "must be None, as the algorithm's modules have no distribution over actions whose entropy the "
    "trigger could watch"
)


def make_settings(
    update_rule: str | UpdateRule, entropy_window: int | None, entropy_z_threshold: float
) -> dict[str, Any]:
    """The settings as Tune can reach them: those of our rules by name.

    Raises:
        ValueError: As `make_updater`.
    """
    rule = make_update_rule(update_rule)
    settings: dict[str, Any] = {"update_rule": rule}
    if type(rule) in UPDATE_RULES.values():
        own = dataclasses.asdict(rule).items()  # type: ignore[call-overload]
        # The passes' mini-batches are not ours to set: see make_updater.
        shown = {n: v for n, v in own if n not in PASS_SETTINGS or n in rule.pass_settings}
        settings = {"update_rule": rule_name(rule), **shown}
    settings |= dict(zip(_TRIGGER, (entropy_window, entropy_z_threshold), strict=True))
    make_updater(settings)
    return settings


def make_updater(settings: dict[str, Any]) -> Updater[Any, Any]:
    """What the settings ask for.

    Raises:
        ValueError: If one is missing, unknown or out of range, or the rule wants a history: what
            RLlib's algorithms keep of a batch is not ours to know; nor is how they cut it.
    """
    if not isinstance(settings, dict) or "update_rule" not in settings:
        raise ValueError(
            f"learner_config_dict[{SETTINGS!r}]={settings!r}: must be a dict with at least "
            "'update_rule', as with_update_rule() sets it"
        )
    settings = dict(settings)
    window = settings.pop("entropy_window", None)
    threshold = settings.pop("entropy_z_threshold", 1.0)
    rule = make_update_rule(copy.deepcopy(settings.pop("update_rule")), **settings)
    if rule.history:
        without = [name for name, cls in UPDATE_RULES.items() if cls.history == 0]
        raise ValueError(
            f"update_rule={rule_name(rule)!r}: keeps {rule.history} earlier batches, which RLlib's "
            f"own algorithms do not support; GRPOConfig does. Here: one of {without}"
        )
    raise_problems(
        f"{name}={value!r}: must be left out, as a pass is one gradient step on what RLlib's "
        "algorithm takes one on (its minibatch_size); GRPOConfig cuts passes otherwise"
        for name, value in rule.pass_settings.items()
    )
    # A threshold that is no number is wrong without a window too.
    raise_problems(
        trigger_problems(
            2 if window is None else window, threshold, _TRIGGER, must_fire=window is not None
        )
    )
    return Updater(rule, None if window is None else EntropyTrigger(window, threshold))
