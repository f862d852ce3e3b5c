"""Rollouts that are kept: recorded as Parquet, shown, viewed in a browser, graded again."""

from sfpo_rllib.recordings.recorder import Recorder
from sfpo_rllib.recordings.settings import ReportingSettings
from sfpo_rllib.recordings.store import RolloutStore, read_rollouts

__all__ = ["Recorder", "ReportingSettings", "RolloutStore", "read_rollouts"]
