"""What groups of episodes show, as numbers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.remote_group import Group, digests_of

SOLVED, HOPELESS = "solved", "hopeless"


def has_equal_rewards(group: Group) -> bool:
    """Whether all returns of a group are equal to the learner: it has no gradient of them."""
    return len({np.float32(digest.episode_return) for digest in digests_of(group)}) == 1


def equal_reward_kind(group: Group) -> str | None:
    """Of a group whose rewards are equal, whether it is `SOLVED` or `HOPELESS`; None of another.

    By the environment's verdict, or by the sign of the reward if it gives none.
    """
    if not has_equal_rewards(group):
        return None
    digests = digests_of(group)
    gives_success = any(digest.gives_success for digest in digests)
    verdicts = [d.is_success for d in digests if gives_success and d.is_success is not None]
    is_solved = fmean(verdicts) >= 0.5 if verdicts else digests[0].episode_return > 0.0
    return SOLVED if is_solved else HOPELESS


def num_sampled_tokens(groups: Sequence[Group]) -> int:
    """Number of tokens the policy sampled."""
    return sum(digest.num_sampled_tokens for digest in _all_digests(groups))


def num_cut_replies(groups: Sequence[Group]) -> int:
    """Number of replies that were cut at max_tokens."""
    return sum(digest.num_cut_replies for digest in _all_digests(groups))


def _all_digests(groups: Sequence[Group]) -> list[EpisodeDigest]:
    return [digest for group in groups for digest in digests_of(group)]


def renewed_fraction(groups: Sequence[Group]) -> float:
    """Share of episodes that were sampled under several versions of the weights."""
    return fmean(digest.is_renewed for digest in _all_digests(groups))


def summarize(groups: Sequence[Group]) -> dict[str, float]:
    """What the episodes of one or more groups are like.

    Returns:
        `episode_return_mean`, `episode_len_mean` (turns), `completion_length_mean` (sampled
        tokens), and of each the least as `_min` and the most as `_max`; `truncated_fraction` (of
        episodes with a reply cut at max_tokens, or that filled the context),
        `num_groups_equal_reward`; `accuracy`, the mean of `is_success` in the final infos, if an
        environment gives it; and `env_metrics/<name>`, the means of the numbers under the final
        infos' `metrics`.
    """
    digests = _all_digests(groups)
    spread: dict[str, list[float]] = {
        "episode_return": [digest.episode_return for digest in digests],
        "episode_len": [digest.num_turns for digest in digests],
        "completion_length": [digest.num_sampled_tokens for digest in digests],
    }
    result: dict[str, float] = {
        **{f"{name}_mean": fmean(values) for name, values in spread.items()},
        **{f"{name}_min": min(values) for name, values in spread.items()},
        **{f"{name}_max": max(values) for name, values in spread.items()},
        "truncated_fraction": fmean(digest.truncated for digest in digests),
        "num_groups_equal_reward": sum(has_equal_rewards(group) for group in groups),
    }
    if any(digest.gives_success for digest in digests):
        # A dialogue that was cut before the environment had a verdict is no success.
        result["accuracy"] = fmean(d.is_success for d in digests if d.is_success is not None)
    numbers: dict[str, list[float]] = defaultdict(list)
    for digest in digests:
        for name, value in digest.metrics.items():
            numbers[f"env_metrics/{name}"].append(value)
    return result | {name: fmean(values) for name, values in numbers.items()}


def log_rollouts(
    metrics: MetricsLogger,
    groups: Sequence[Group],
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
    num_steps = sum(digest.num_turns for digest in _all_digests(groups))
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
