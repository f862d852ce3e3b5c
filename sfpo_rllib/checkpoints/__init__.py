"""Checkpoints that are there whole or not at all, and that are checked before they are loaded."""

from sfpo_rllib.checkpoints.manifest import CheckpointError, newest_valid, verify

__all__ = ["CheckpointError", "newest_valid", "verify"]
