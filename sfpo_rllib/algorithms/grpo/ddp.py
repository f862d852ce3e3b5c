"""Learners that each hold the whole model and reduce gradients (DistributedDataParallel)."""

from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.utils.annotations import override

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.rl_modules.parallelism import Parallelism


class DDP(Parallelism):
    """Copies of the model."""

    @classmethod
    @override(Parallelism)
    def learner_class(cls) -> type[Learner]:
        return GRPOTorchLearner

    @classmethod
    @override(Parallelism)
    def learner_group_class(cls) -> type[LearnerGroup]:
        return GRPOLearnerGroup

    @classmethod
    @override(Parallelism)
    def buckets(cls, gradients: int, num_learners: int) -> int:
        return gradients if num_learners > 1 else 0
