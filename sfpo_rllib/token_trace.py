"""The token-level record of an episode: what the engine sampled and what the learner trains on."""

from dataclasses import dataclass

import numpy as np
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

_KEY = "token_trace"
# Of a trace: a token id, a log-prob and a place in the mask.
BYTES_PER_TOKEN = 4 + 4 + 1


@dataclass(frozen=True)
class TokenTrace:
    """One episode's dialogue as tokens, over all its turns. Nothing is ever encoded twice.

    Attributes:
        token_ids: The whole dialogue, int32, shape (T,).
        loss_mask: True on tokens the policy sampled, False on the environment's, shape (T,).
        logprobs: The engine's log-probs of the sampled tokens, 0 elsewhere, float32, (T,).
        seed: The seed its environment was reset with: the group's name.
        member: Index in the group, 0 to group_size - 1.
        weights_version: The version of the weights it was sampled from; the first, if new ones came
            while it was.
        truncated: Whether a reply was cut at max_tokens.
        cut_replies: Where in `token_ids` the replies that were cut begin and end. None: in what is
            `truncated` all of them are.
        versions: If new weights came meanwhile: where in `token_ids` each version begins, and
            which it is, the first one included. None: there was one.
    """

    token_ids: np.ndarray
    loss_mask: np.ndarray
    logprobs: np.ndarray
    seed: int
    member: int
    weights_version: int
    truncated: bool
    cut_replies: tuple[tuple[int, int], ...] | None = None
    versions: tuple[tuple[int, int], ...] | None = None

    @property
    def token_versions(self) -> np.ndarray:
        """The version that each token was sampled from, -1 on the environment's, int64, (T,)."""
        result = np.full(len(self.token_ids), self.weights_version)
        for start, version in self.versions or ():
            result[start:] = version
        return np.where(self.loss_mask, result, -1)

    @property
    def num_cut_replies(self) -> int:
        """Replies that were cut at max_tokens."""
        return int(self.truncated) if self.cut_replies is None else len(self.cut_replies)

    @property
    def whole_replies_mask(self) -> np.ndarray:
        """True on tokens the policy sampled in replies that were not cut, shape (T,)."""
        if self.cut_replies is None:
            return self.loss_mask & (not self.truncated)
        mask = self.loss_mask.copy()
        for start, end in self.cut_replies:
            mask[start:end] = False
        return mask

    def attach(self, episode: SingleAgentEpisode) -> None:
        """Stores the trace with its episode."""
        episode.custom_data[_KEY] = self

    @staticmethod
    def of(episode: SingleAgentEpisode) -> "TokenTrace":
        """The trace of an episode.

        Raises:
            ValueError: If the episode has none, that is did not come from a GroupEnvRunner.
        """
        if _KEY not in episode.custom_data:
            raise ValueError(f"episode {episode.id_}: has no token trace")
        return episode.custom_data[_KEY]
