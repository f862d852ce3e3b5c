"""What groups of episodes show, as numbers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from sfpo_rllib.env_runners.env_values import as_number
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


def renewed_fraction(groups: Sequence[Sequence[SingleAgentEpisode]]) -> float:
    """Share of episodes that were sampled under several versions of the weights."""
    return fmean(TokenTrace.of(e).versions is not None for group in groups for e in group)


def summarize(groups: Sequence[Sequence[SingleAgentEpisode]]) -> dict[str, float]:
    """Means over the episodes of one or more groups.

    Returns:
        `episode_return_mean`, `episode_len_mean` (turns), `completion_length_mean` (sampled
        tokens), `truncated_fraction` (of episodes with a reply cut at max_tokens, or that filled
        the context), `num_groups_equal_reward`; `accuracy`, the mean of `is_success` in the final
        infos, if an environment gives it; and `env_metrics/<name>`, the means of the numbers under
        the final infos' `metrics`.
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
    if any("is_success" in info for info in infos):
        # A dialogue that was cut before the environment had a verdict is no success.
        result["accuracy"] = fmean(
            as_number(info.get("is_success", False)) or 0.0
            for info, episode in zip(infos, episodes, strict=True)
            if "is_success" in info or episode.is_truncated
        )
    numbers: dict[str, list[float]] = defaultdict(list)
    for info in infos:
        for name, value in (info.get("metrics") or {}).items():
            numbers[f"env_metrics/{name}"].append(as_number(value) or 0.0)
    return result | {name: fmean(values) for name, values in numbers.items()}


def log_rollouts(
    metrics: MetricsLogger,
    groups: Sequence[Sequence[SingleAgentEpisode]],
    counts: Mapping[str, float],
    *,
    seconds: float,
) -> None:
    """Logs what was sampled for a batch.

    Args:
        metrics: The algorithm's.
        groups: All that were sampled.
        counts: Further numbers of this iteration.
        seconds: How long it took.
    """
    num_episodes = sum(map(len, groups))
    num_steps = sum(len(episode) for group in groups for episode in group)
    numbers = {
        **summarize(groups),
        **counts,
        "tokens_per_s": num_sampled_tokens(groups) / seconds,
    }
    for name, value in numbers.items():
        metrics.log_value((ENV_RUNNER_RESULTS, *name.split("/")), value, reduce="mean", window=1)
    for name, value in {NUM_EPISODES: num_episodes, NUM_ENV_STEPS_SAMPLED: num_steps}.items():
        metrics.log_value((ENV_RUNNER_RESULTS, name), value, reduce="sum")
    for name, value in {
        "num_rollouts_lifetime": num_episodes,
        NUM_EPISODES_LIFETIME: num_episodes,
        NUM_ENV_STEPS_SAMPLED_LIFETIME: num_steps,
    }.items():
        metrics.log_value((ENV_RUNNER_RESULTS, name), value, reduce="lifetime_sum")
