"""A config whose learner updates by a rule."""

from collections.abc import Iterator

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.algorithms.sac.sac_learner import SACLearner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.with_update_rule.learner import UpdateRuleLearnerMixin
from sfpo_rllib.algorithms.with_update_rule.settings import (
    NO_POLICY,
    SETTINGS,
    make_settings,
    make_updater,
)
from sfpo_rllib.core.checks import raise_problems
from sfpo_rllib.core.update_rules import UpdateRule


def with_update_rule(
    config: AlgorithmConfig,
    update_rule: str | UpdateRule,
    *,
    entropy_window: int | None = None,
    entropy_z_threshold: float = 1.0,
    entropy_warmup: int = 0,
    entropy_patience: int = 1,
) -> AlgorithmConfig:
    """Returns a copy of `config` whose learner updates by the rule.

    "The batch" is what the learner takes one gradient step on, its mini-batch, so a pass is one
    gradient step. Whatever else the learner does once an update (metrics, target networks,
    learning rates, priorities of a replay buffer) it does once a batch, not a pass, from the last
    pass. The settings live in the learner config (`config.learner_config_dict["sfpo"]`: the rule's
    own by name, and the trigger's, those from `entropy_window` on), where Tune can reach them.

    Args:
        config: Of an algorithm with a TorchLearner, e.g. PPOConfig. Left alone.
        update_rule: A name, or an instance of one of our rules or of an own one.
        entropy_window: w of the entropy trigger. None: no trigger.
        entropy_z_threshold: z-score from which on the rule is switched off for good.
        entropy_warmup: So many first batches cannot fire it.
        entropy_patience: So many z-scores in a row must reach the threshold.

    Returns:
        The new config. It can be changed further: its `validate()` looks at it again.

    Raises:
        ValueError: If a setting is out of range, the learner is not a TorchLearner or has a rule
            already, the rule wants a history, or `UpdateRuleConfigMixin.rule_problems()` has
            something to say.
    """
    settings = make_settings(
        update_rule,
        entropy_window=entropy_window,
        entropy_z_threshold=entropy_z_threshold,
        entropy_warmup=entropy_warmup,
        entropy_patience=entropy_patience,
    )
    if not isinstance(config, AlgorithmConfig):
        raise ValueError(f"config={config!r}: must be an AlgorithmConfig, e.g. PPOConfig()")
    base = config.learner_class
    if not (isinstance(base, type) and issubclass(base, TorchLearner)):
        raise ValueError(f"learner_class={base!r}: must be a TorchLearner")
    if issubclass(base, GRPOTorchLearner):
        raise ValueError(
            f"learner_class={base!r}: has a rule already; use training(update_rule=...)"
        )
    if issubclass(base, UpdateRuleLearnerMixin):
        raise ValueError(
            f"learner_class={base!r}: has a rule already, "
            f"{config.learner_config_dict.get(SETTINGS)}; give the config from before it had one"
        )
    wrapped = config.copy(copy_frozen=False)
    # Its own class, so that what is set later is looked at too.
    wrapped.__class__ = type(type(config).__name__, (UpdateRuleConfigMixin, type(config)), {})
    wrapped.learners(
        learner_class=type(f"UpdateRule{base.__name__}", (UpdateRuleLearnerMixin, base), {}),
        learner_config_dict={SETTINGS: settings},
    )
    wrapped.check_rule()
    return wrapped


class UpdateRuleConfigMixin(AlgorithmConfig):
    """Looks, with `validate()`, whether the rule can do its work."""

    @override(AlgorithmConfig)
    def validate(self) -> None:
        self.check_rule()
        super().validate()

    def check_rule(self) -> None:
        """Raises a ValueError that lists all that keeps the rule from its work."""
        raise_problems(self.rule_problems())

    def rule_problems(self) -> Iterator[str]:
        """What keeps the rule from its work, as it is set now."""
        for name in ("enable_rl_module_and_learner", "enable_env_runner_and_connector_v2"):
            if not getattr(self, name):
                yield (
                    f"{name}={getattr(self, name)!r}: must be True, as the update rule lives in a "
                    "Learner, which the old API stack does not have"
                )
        base = self.learner_class
        if not (isinstance(base, type) and issubclass(base, UpdateRuleLearnerMixin)):
            yield (
                f"learner_class={base!r}: has no update rule any more; set it before "
                "with_update_rule(), not after"
            )
        settings = self.learner_config_dict.get(SETTINGS)
        try:
            updater = make_updater(settings)
        except ValueError as error:
            yield str(error)
        else:
            greedy = issubclass(base, DQNTorchLearner) and not issubclass(base, SACLearner)
            if updater.trigger is not None and greedy:
                yield f"entropy_window={settings['entropy_window']!r}: {NO_POLICY}"
        if self.is_multi_agent and self.is_offline and not self.prelearner_class:
            yield (
                f"policies={sorted(self.policies)}: must be one, as RLlib's offline data holds no "
                "episodes of several agents"
            )
