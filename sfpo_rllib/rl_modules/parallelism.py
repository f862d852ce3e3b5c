"""Kinds of parallelism: how several learners share the work on one model."""

from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.core.registry import imported

# Each is imported only when it is asked for.
PARALLELISMS = {
    "ddp": "sfpo_rllib.rl_modules.parallelism:DDP",
    "fsdp": "sfpo_rllib.algorithms.grpo.fsdp:FSDP",
}
FP32 = 4  # bytes


class DDP:
    """Each learner holds the whole model, and gradients are reduced.

    Other kinds derive from it. A kind is asked as a class; there are no instances.

    Attributes:
        learner: Where the class of its learners is, as `"module:name"`.
        learner_group: Where the class of the group of them is.
    """

    learner: ClassVar[str] = "sfpo_rllib.algorithms.grpo.grpo_torch_learner:GRPOTorchLearner"
    learner_group: ClassVar[str] = "sfpo_rllib.algorithms.grpo.learner_group:GRPOLearnerGroup"

    @classmethod
    def problems(cls, config: AlgorithmConfig) -> list[str]:
        """What does not go with it, each as `field=value: what would be right`."""
        return []

    @classmethod
    def num_shards(cls, num_learners: int) -> int:
        """Into how many parts weights, gradients, moments and snapshot are cut."""
        return 1

    @classmethod
    def buckets(cls, gradients: int, num_learners: int) -> int:
        """Bytes of the buffers in which so many bytes of gradients are reduced."""
        return gradients if num_learners > 1 else 0

    @classmethod
    def pass_weights(cls, model: Any, compute_bytes: int, *, holds_reference: bool) -> int:
        """Bytes of the weights that are there for a pass alone.

        Args:
            model: Its `Footprint`.
            compute_bytes: Of a value in the compute dtype.
            holds_reference: Whether there is a frozen model beside the policy.
        """
        masters = compute_bytes == FP32
        return 0 if masters else int(compute_bytes * model.cast_parameters)


def parallelism_class(name: str) -> type[DDP]:
    """The kind of that name.

    Raises:
        ValueError: If there is none.
    """
    if not isinstance(name, str) or name not in PARALLELISMS:
        raise ValueError(f"parallelism={name!r}: must be one of {tuple(PARALLELISMS)}")
    found: type[DDP] = imported(PARALLELISMS[name])
    return found


def sharding() -> str:
    """The first kind under which each learner holds a part of the model."""
    return next(name for name in PARALLELISMS if parallelism_class(name).num_shards(2) > 1)
