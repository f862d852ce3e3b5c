"""Kinds of parallelism: how several learners share the work on one model."""

from collections.abc import Iterator
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.core.registry import imported

# Each is imported only when it is asked for.
PARALLELISMS = {
    "ddp": "sfpo_rllib.algorithms.grpo.ddp:DDP",
    "fsdp": "sfpo_rllib.algorithms.grpo.fsdp:FSDP",
}
FP32 = 4  # bytes


class Parallelism:
    """A kind: its learners, what it refuses, what it takes. As it is, each holds the whole model.

    It is asked as a class; there are no instances.
    """

    @classmethod
    def learner_class(cls) -> type[Any]:
        """Of each learner."""
        raise NotImplementedError

    @classmethod
    def learner_group_class(cls) -> type[Any]:
        """Of the group of them."""
        raise NotImplementedError

    @classmethod
    def problems(cls, config: AlgorithmConfig) -> Iterator[str]:
        """What does not go with it, each as `field=value: what would be right`."""
        yield from ()

    @classmethod
    def num_shards(cls, num_learners: int) -> int:
        """Into how many parts weights, gradients, moments and snapshot are cut."""
        return 1

    @classmethod
    def buckets(cls, gradients: int, num_learners: int) -> int:
        """Bytes of buffers for gradients of so many bytes."""
        return 0

    @classmethod
    def pass_weights(
        cls, *, cast: int, layer: int, outside: int, compute_bytes: int, holds_reference: bool
    ) -> int:
        """Bytes of the weights that are there for a pass alone.

        Args:
            cast: Parameters that autocast copies into the compute dtype.
            layer: Parameters of the largest layer.
            outside: Parameters outside of the layers.
            compute_bytes: Of a value in the compute dtype.
            holds_reference: Whether there is a frozen model beside the policy.
        """
        return 0 if compute_bytes == FP32 else compute_bytes * cast  # else they are the masters


def parallelism_class(name: str) -> type[Parallelism]:
    """The kind of that name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PARALLELISMS:
        raise ValueError(f"parallelism={name!r}: must be one of {tuple(PARALLELISMS)}")
    found: type[Parallelism] = imported(PARALLELISMS[name])
    return found


def sharding() -> tuple[str, type[Parallelism]]:
    """The first kind under which each learner holds a part of the model."""
    kinds = ((name, parallelism_class(name)) for name in PARALLELISMS)
    return next((name, kind) for name, kind in kinds if kind.num_shards(2) > 1)
