"""Update rules on any RLlib algorithm that trains with a TorchLearner."""

from sfpo_rllib.algorithms.with_update_rule.config import with_update_rule
from sfpo_rllib.algorithms.with_update_rule.learner import UpdateRuleLearnerMixin

__all__ = ["UpdateRuleLearnerMixin", "with_update_rule"]
