"""The group of learners: what the algorithm asks of them, whether they hold copies or shares."""

import contextlib
import logging
from collections.abc import Collection, Iterator
from typing import Any

import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup

from sfpo_rllib.algorithms.grpo.remote import values_of

logger = logging.getLogger(__name__)


class GRPOLearnerGroup(LearnerGroup):
    """RLlib's group, and what the algorithm needs of it besides."""

    def get_module_weights(self) -> dict[str, torch.Tensor]:
        """The trained float32 weights under transformers' names, on the CPU.

        With `model_config["lora"]` the adapter's, under the names of peft's files.
        """

        def copied(learner: Learner) -> dict[str, torch.Tensor]:
            weights = learner.module[DEFAULT_MODULE_ID].unwrapped().weights()
            return {name: tensor.cpu().clone() for name, tensor in weights.items()}

        first = None if self.is_local else [0]
        with self.gathered(COMPONENT_RL_MODULE):
            (weights,) = values_of(self.foreach_learner(copied, remote_actor_ids=first))
        return weights

    def get_recent_batches(self) -> list[Any]:
        """The batches that the update rule keeps, each learner's share of them."""
        if not self.config.make_update_rule().history:
            return []
        return values_of(self.foreach_learner(lambda learner: learner.get_recent_batches()))

    def set_recent_batches(self, shares: list[Any]) -> None:
        """Goes on from `get_recent_batches()`, if there were as many learners."""
        if not self.config.make_update_rule().history:
            return
        num_learners = max(self.config.num_learners, 1)
        if shares and len(shares) != num_learners:
            logger.warning(
                "The checkpoint has the recent batches of %d learners, there are %d: the update "
                "rule's history starts empty.",
                len(shares),
                num_learners,
            )
        if len(shares) != num_learners:  # what has been seen here so far is not the checkpoint's
            shares = [[]] * num_learners
        for i, share in enumerate(shares):
            values_of(
                self.foreach_learner(
                    lambda learner, batches: learner.set_recent_batches(batches),
                    remote_actor_ids=None if self.is_local else [i],
                    batches=share,
                )
            )

    @contextlib.contextmanager
    def gathered(
        self,
        components: str | Collection[str] | None = None,
        not_components: str | Collection[str] | None = None,
    ) -> Iterator[None]:
        """The first learner can be asked for weights and state in the body.

        Args:
            components: Of the learner that will be asked for; None: all.
            not_components: Of the learner that will not be.
        """
        yield
