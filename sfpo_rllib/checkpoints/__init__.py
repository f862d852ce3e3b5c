"""Checkpoints that are there whole or not at all, and that are checked before they are loaded."""

from sfpo_rllib.checkpoints.algorithm import CheckpointedAlgorithm, read_config, read_weights
from sfpo_rllib.checkpoints.components import SavedAsTensors
from sfpo_rllib.checkpoints.learner import CheckpointedLearner, num_batches, with_own_metrics
from sfpo_rllib.checkpoints.manifest import CheckpointError, newest_valid, verify

__all__ = [
    "CheckpointError",
    "CheckpointedAlgorithm",
    "CheckpointedLearner",
    "SavedAsTensors",
    "newest_valid",
    "num_batches",
    "read_config",
    "read_weights",
    "verify",
    "with_own_metrics",
]
