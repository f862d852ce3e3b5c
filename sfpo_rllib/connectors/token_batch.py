"""Episodes to a padded token batch."""

from typing import Any

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.annotations import override

from sfpo_rllib.rl_modules.causal_lm import (
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
    NUM_TURNS,
    WEIGHTS_VERSION,
)
from sfpo_rllib.token_trace import TokenTrace

TRUNCATED_REPLIES = ("train", "mask")


class TokenBatch(ConnectorV2):
    """Pads the token traces of whole groups into tensors of shape (B, T), on the right.

    Rows stand group by group in the order of the episodes; T is the longest trace. A token takes
    10 bytes; `forward_train` and `reference_logp` make of them what models want.
    """

    def __init__(
        self,
        *,
        group_size: int,
        truncated_replies: str = "train",
        count_turns: bool = False,
        tell_versions: bool = False,
        device: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets what is made.

        Args:
            group_size: Episodes of a group.
            truncated_replies: One of `TRUNCATED_REPLIES`. "mask": no token of a reply that was cut
                counts. Its episode still does in the group's baseline.
            count_turns: Whether there is a column for the turns of an episode.
            tell_versions: Whether there is a column for the version of the weights that sampled.
            device: Of the tensors.
            kwargs: Of `ConnectorV2`.
        """
        super().__init__(**kwargs)
        self._group_size = group_size
        self._mask_truncated = truncated_replies == "mask"
        self._count_turns = count_turns
        self._tell_versions = tell_versions
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
        traces = [TokenTrace.of(episode) for episode in episodes]
        check_whole_groups(traces, self._group_size)
        shape = len(traces), max(len(trace.token_ids) for trace in traces)
        columns = {
            INPUT_IDS: np.zeros(shape, np.int32),
            ATTENTION_MASK: np.zeros(shape, np.bool_),  # by length: a pad id may equal EOS
            LOSS_MASK: np.zeros(shape, np.bool_),
            BEHAVIOUR_LOGP: np.zeros(shape, np.float32),
        }
        if self._count_turns:
            columns[NUM_TURNS] = np.array([len(episode) for episode in episodes])
        if self._tell_versions:
            columns[WEIGHTS_VERSION] = np.array([trace.weights_version for trace in traces])
        for row, trace in enumerate(traces):
            length = len(trace.token_ids)
            columns[INPUT_IDS][row, :length] = trace.token_ids
            columns[ATTENTION_MASK][row, :length] = True
            columns[LOSS_MASK][row, :length] = (
                trace.whole_replies_mask if self._mask_truncated else trace.loss_mask
            )
            columns[BEHAVIOUR_LOGP][row, :length] = trace.logprobs
        batch[DEFAULT_MODULE_ID] = {
            name: torch.from_numpy(array).to(self._device) for name, array in columns.items()
        }
        return batch


def check_whole_groups(traces: list[TokenTrace], group_size: int) -> None:
    """Raises a ValueError unless the traces are whole groups, one after the other."""
    if not traces or len(traces) % group_size:
        raise ValueError(f"{len(traces)} episodes: must be whole groups of {group_size}")
    for start in range(0, len(traces), group_size):
        group = traces[start : start + group_size]
        if len({trace.seed for trace in group}) != 1 or {trace.member for trace in group} != set(
            range(group_size)
        ):
            raise ValueError(
                f"episodes {start} to {start + group_size - 1}: not one whole group of "
                f"{group_size}, but (seed, member) {[(t.seed, t.member) for t in group]}"
            )
