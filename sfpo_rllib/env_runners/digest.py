"""What the driver wants to know of an episode: numbers, and none of its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.env_values import as_number
from sfpo_rllib.token_trace import TokenTrace


@dataclass(frozen=True)
class EpisodeDigest:
    """Numbers of one episode.

    Attributes:
        episode_return: The sum of its rewards.
        num_turns: Of its dialogue.
        num_tokens: Of its dialogue.
        num_sampled_tokens: Those of them that the policy sampled.
        num_cut_replies: Replies that were cut at max_tokens.
        truncated: Whether one was, or the dialogue filled the context.
        is_success: The environment's verdict as a number. Of a dialogue that was cut before there
            was one, 0; None: it gave none.
        gives_success: Whether the environment gave a verdict.
        metrics: The numbers under the final info's `metrics`.
        is_renewed: Whether it was sampled under several versions of the weights.
    """

    episode_return: float
    num_turns: int
    num_tokens: int
    num_sampled_tokens: int
    num_cut_replies: int
    truncated: bool
    is_success: float | None
    gives_success: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_renewed: bool = False

    @classmethod
    def of(cls, episode: SingleAgentEpisode) -> "EpisodeDigest":
        """The digest of an episode."""
        trace, info = TokenTrace.of(episode), episode.get_infos(-1) or {}
        gives = "is_success" in info
        success = as_number(info.get("is_success", False)) or 0.0
        metrics = {n: as_number(v) or 0.0 for n, v in (info.get("metrics") or {}).items()}
        return cls(
            episode_return=episode.get_return(),
            num_turns=len(episode),
            num_tokens=len(trace.token_ids),
            num_sampled_tokens=int(trace.loss_mask.sum()),
            num_cut_replies=trace.num_cut_replies,
            truncated=trace.truncated,
            is_success=success if gives or episode.is_truncated else None,
            gives_success=gives,
            metrics=metrics,
            is_renewed=trace.versions is not None,
        )
