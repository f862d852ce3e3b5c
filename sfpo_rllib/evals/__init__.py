"""How good a model is on the benchmarks of the field, or on any environment."""

from sfpo_rllib.evals.evaluate import Evaluation, Watcher, evaluate
from sfpo_rllib.evals.models import Evaluated, find_models
from sfpo_rllib.evals.replies import Reply
from sfpo_rllib.evals.settings import PRESETS, EvalSettings
from sfpo_rllib.evals.tasks import TASKS, Task, find_tasks, math_task

__all__ = [
    "PRESETS",
    "TASKS",
    "EvalSettings",
    "Evaluated",
    "Evaluation",
    "Reply",
    "Task",
    "Watcher",
    "evaluate",
    "find_models",
    "find_tasks",
    "math_task",
]
