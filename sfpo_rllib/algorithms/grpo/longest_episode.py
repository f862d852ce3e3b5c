"""What Dr. GRPO divides by: the most tokens that the policy can sample in an episode."""

import logging
from collections.abc import Callable

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.rl_modules.model_settings import ModelSettings

logger = logging.getLogger(__name__)


class LongestEpisode:
    """The constant of `loss_aggregation="constant"`.

    An episode of one turn is a reply, of at most `max_tokens`. How many turns an environment takes
    is its own affair, but all of them together must fit into the engine's context. Which of the two
    it is shows in the first batch, or else in the first that has an episode of several turns, and
    stays from there on.

    Attributes:
        tokens: The constant.
        several_turns: Whether there has been an episode of several turns.
    """

    def __init__(self, config: AlgorithmConfig) -> None:
        self._config = config
        self.restore(several_turns=False)

    def restore(self, *, several_turns: bool) -> None:
        """Goes on from what was known before."""
        self.several_turns = several_turns
        self.tokens = (
            self._context() if several_turns else self._config.sampling_settings.max_tokens
        )

    def look_at(
        self, num_turns: torch.Tensor | None, all_reduce: Callable[[torch.Tensor], None]
    ) -> None:
        """Takes a batch into account, all learners together.

        Args:
            num_turns: Of each episode, shape (B,); None if the constant is not needed.
            all_reduce: Sums over learners, in place.
        """
        if num_turns is None or self.several_turns:
            return
        several = (num_turns > 1).sum().double()
        all_reduce(several)
        if several:
            self.restore(several_turns=True)
            logger.warning(
                "Episodes have several turns: loss_aggregation='constant' divides by the %d tokens "
                "of the context.",
                self.tokens,
            )

    def _context(self) -> int:
        model_config = ModelSettings.of(self._config.model_config).pretrained_config()
        return context_length(model_config, self._config.engine_kwargs)
