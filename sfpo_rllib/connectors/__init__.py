"""The learner connector: episodes to token batch, and group-relative advantages."""

from sfpo_rllib.connectors.group_advantages import GroupRelativeAdvantages
from sfpo_rllib.connectors.token_batch import TokenBatch

__all__ = ["GroupRelativeAdvantages", "TokenBatch"]
