"""Memory per device, estimated before anything heavy starts: `print(config.preflight())`."""

from sfpo_rllib.preflight.estimate import Preflight, preflight
from sfpo_rllib.preflight.memory import LearnerMemory, LearnerSettings, learner_memory
from sfpo_rllib.rl_modules.footprint import Footprint, measure_footprint

__all__ = [
    "Footprint",
    "LearnerMemory",
    "LearnerSettings",
    "Preflight",
    "learner_memory",
    "measure_footprint",
    "preflight",
]
