"""How new weights get from the learners to the engines."""

from sfpo_rllib.env_runners.weights.mailbox import Mailbox, MailboxReader
from sfpo_rllib.env_runners.weights.object_store import ObjectStore
from sfpo_rllib.env_runners.weights.published import PublishedWeights, WeightPublisher

__all__ = ["Mailbox", "MailboxReader", "ObjectStore", "PublishedWeights", "WeightPublisher"]
