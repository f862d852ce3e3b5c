"""How new weights get from the learners to the engines."""

from sfpo_rllib.env_runners.weights.mailbox import Mailbox, MailboxReader
from sfpo_rllib.env_runners.weights.object_store import ObjectStore
from sfpo_rllib.env_runners.weights.published import (
    WEIGHT_OFFER,
    PublishedWeights,
    WeightPublisher,
)
from sfpo_rllib.env_runners.weights.settings import WEIGHT_TRANSPORTS, WeightSettings

__all__ = [
    "WEIGHT_OFFER",
    "WEIGHT_TRANSPORTS",
    "Mailbox",
    "MailboxReader",
    "ObjectStore",
    "PublishedWeights",
    "WeightPublisher",
    "WeightSettings",
]
