"""Group-relative advantages from the returns of whole groups."""

from typing import Any

import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override

from sfpo_rllib.core.advantages import group_relative_advantages
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES


class GroupRelativeAdvantages(ConnectorV2):
    """Adds the advantage of each episode over its group, shape (B,), to the token batch."""

    def __init__(
        self, *, group_size: int, normalize: bool = True, device: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._group_size = group_size
        self._normalize = normalize
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
        returns = torch.tensor([episode.get_return() for episode in episodes], dtype=torch.float32)
        advantages, _ = group_relative_advantages(
            returns.view(-1, self._group_size), normalize=self._normalize
        )
        batch[DEFAULT_MODULE_ID][ADVANTAGES] = advantages.flatten().to(self._device)
        return batch
