"""What groups of episodes show, as numbers."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.token_trace import TokenTrace


def has_equal_rewards(group: Sequence[SingleAgentEpisode]) -> bool:
    """Whether all returns of a group are equal: such a group carries no gradient."""
    return len({episode.get_return() for episode in group}) == 1


def num_sampled_tokens(groups: Sequence[Sequence[SingleAgentEpisode]]) -> int:
    """Number of tokens the policy sampled."""
    return sum(int(TokenTrace.of(e).loss_mask.sum()) for group in groups for e in group)


def num_cut_replies(groups: Sequence[Sequence[SingleAgentEpisode]]) -> int:
    """Number of replies that were cut at max_tokens."""
    return sum(TokenTrace.of(e).num_cut_replies for group in groups for e in group)


def summarize(groups: Sequence[Sequence[SingleAgentEpisode]]) -> dict[str, float]:
    """Means over the episodes of one or more groups.

    Returns:
        `episode_return_mean`, `episode_len_mean` (turns), `completion_length_mean` (sampled
        tokens), `truncated_fraction` (replies cut at max_tokens), `num_groups_equal_reward`;
        `accuracy`, the mean of `is_success` in the final infos, if an environment gives it; and
        `env_metrics/<name>`, the means of the numbers under the final infos' `metrics`.
    """
    episodes = [episode for group in groups for episode in group]
    result: dict[str, float] = {
        "episode_return_mean": fmean(episode.get_return() for episode in episodes),
        "episode_len_mean": fmean(len(episode) for episode in episodes),
        "completion_length_mean": num_sampled_tokens(groups) / len(episodes),
        "truncated_fraction": fmean(TokenTrace.of(episode).truncated for episode in episodes),
        "num_groups_equal_reward": sum(has_equal_rewards(group) for group in groups),
    }
    infos = [episode.get_infos(-1) or {} for episode in episodes]
    successes = [float(info["is_success"]) for info in infos if "is_success" in info]
    if successes:
        result["accuracy"] = fmean(successes)
    numbers: dict[str, list[float]] = defaultdict(list)
    for info in infos:
        for name, value in (info.get("metrics") or {}).items():
            numbers[f"env_metrics/{name}"].append(float(value))
    return result | {name: fmean(values) for name, values in numbers.items()}
