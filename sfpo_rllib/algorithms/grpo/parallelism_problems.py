"""What can be wrong with learners, above all where they share one model."""

from collections.abc import Iterator

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.core.checks import is_int
from sfpo_rllib.preflight.memory import PARALLELISMS


def parallelism_problems(config: AlgorithmConfig) -> Iterator[str]:
    """What is wrong with how learners share the model, and what does not go with it."""
    if config.parallelism not in PARALLELISMS:
        yield f"parallelism={config.parallelism!r}: must be one of {PARALLELISMS}"
    if not isinstance(config.restart_failed_learners, bool):
        yield f"restart_failed_learners={config.restart_failed_learners!r}: must be True or False"
    if config.parallelism != "fsdp":
        return
    if not is_int(config.num_learners, 2):
        yield (
            f"num_learners={config.num_learners!r}: must be at least 2 with parallelism='fsdp'; a "
            "single learner has nobody to share the model with"
        )
    default = config.get_default_learner_class()
    if not issubclass(config.learner_class, default):
        yield (
            f"learner_class={config.learner_class.__name__}: must be a subclass of "
            f"{default.__name__} with parallelism='fsdp'"
        )
    if config.model_config.get("lora") is not None:
        yield (
            f"model_config['lora']={config.model_config['lora']!r}: must be None with "
            "parallelism='fsdp'; with 'ddp' the model is held in its dtype and little is trained"
        )
    if "8bit" in str(config.optimizer):
        yield (
            f"optimizer={config.optimizer!r}: must be another with parallelism='fsdp'; "
            "bitsandbytes does not take sharded weights"
        )
    if config.grad_clip is not None and config.grad_clip_by != "global_norm":
        yield (
            f"grad_clip_by={config.grad_clip_by!r}: must be 'global_norm' with parallelism='fsdp'; "
            "a learner sees shards of the gradients"
        )
