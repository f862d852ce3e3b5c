"""Group-relative advantages from the returns of whole groups."""

from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override

from sfpo_rllib.core.advantages import (
    AdvantageEstimator,
    equal_reward_groups,
    group_relative_advantages,
)
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES, LOSS_MASK


class GroupRelativeAdvantages(ConnectorV2):
    """Adds the advantage of each episode over its group, shape (B,), to the token batch.

    Learners gather each other's returns first: a baseline may look at the whole rollout batch, and
    then is the same however many learners there are.
    """

    def __init__(
        self,
        *,
        group_size: int,
        advantages: AdvantageEstimator = "group",
        drop_equal: bool = False,
        num_learners: int = 1,
        device: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets what is computed.

        Args:
            group_size: Episodes of a group.
            advantages: See `core.group_relative_advantages`.
            drop_equal: No token of a group whose returns are all equal counts.
            num_learners: That each get as many groups.
            device: Of the token batch.
            kwargs: Of `ConnectorV2`.
        """
        super().__init__(**kwargs)
        self._group_size = group_size
        self._advantages = advantages
        self._drop_equal = drop_equal
        self._num_learners = num_learners
        self._device = device

    @override(ConnectorV2)
    def __call__(
        self,
        *,
        rl_module: RLModule,
        batch: dict[str, Any],
        episodes: list[SingleAgentEpisode],
        **kwargs: Any,
    ) -> dict[str, Any]:
        columns = batch[DEFAULT_MODULE_ID]
        returns = torch.tensor([episode.get_return() for episode in episodes], dtype=torch.float32)
        returns = returns.view(-1, self._group_size).to(self._device)
        own, whole = self._gather(returns)
        advantages, _ = group_relative_advantages(whole, self._advantages)
        columns[ADVANTAGES] = advantages[own].flatten()
        if self._drop_equal:
            dropped = equal_reward_groups(returns).repeat_interleave(self._group_size)
            columns[LOSS_MASK] = columns[LOSS_MASK] & ~dropped.unsqueeze(1)
        return batch

    def _gather(self, returns: torch.Tensor) -> tuple[slice, torch.Tensor]:
        """Where this learner's groups are among those of all learners, and the returns of all."""
        if self._num_learners == 1:
            return slice(None), returns
        shares = [torch.empty_like(returns) for _ in range(self._num_learners)]
        torch.distributed.all_gather(shares, returns)
        start = torch.distributed.get_rank() * len(returns)
        return slice(start, start + len(returns)), torch.cat(shares)
