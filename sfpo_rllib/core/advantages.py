"""Group-relative baselines as pure functions, and by name.

They see the rewards of the whole rollout batch, over all learners. Dr. GRPO is `group_mean` with
the loss aggregation "constant"; see `core.losses`.
"""

from collections.abc import Callable

import torch

# Rewards of the whole batch, shape (groups, group_size), to advantages of the same shape.
AdvantageFunction = Callable[[torch.Tensor], torch.Tensor]
AdvantageEstimator = str | AdvantageFunction

EPSILON = 1e-6


def over_group_mean(rewards: torch.Tensor) -> torch.Tensor:
    """r_i - mean(group): does not weight easy and hard problems up (Dr. GRPO, arXiv 2503.20783)."""
    return rewards - rewards.mean(dim=1, keepdim=True)


def over_group_mean_and_std(rewards: torch.Tensor) -> torch.Tensor:
    """(r_i - mean(group)) / (std(group) + 1e-6), unbiased (GRPO, arXiv 2402.03300, eq. 3)."""
    return over_group_mean(rewards) / (rewards.std(dim=1, keepdim=True) + EPSILON)


def over_the_others(rewards: torch.Tensor) -> torch.Tensor:
    """r_i - mean(r_j of the group, j != i): leave one out (RLOO, arXiv 2402.14740)."""
    size = rewards.shape[1]
    return over_group_mean(rewards) * (size / (size - 1))


def over_group_mean_and_batch_std(rewards: torch.Tensor) -> torch.Tensor:
    """(r_i - mean(group)) / (std(batch) + 1e-6) (REINFORCE++ with a baseline, arXiv 2501.03262).

    The deviation is that of all r_i - mean(group), unbiased: small groups give a poor estimate of
    their own.
    """
    centred = over_group_mean(rewards)
    return centred / (centred.std() + EPSILON)


ADVANTAGES: dict[str, AdvantageFunction] = {
    "group": over_group_mean_and_std,
    "group_mean": over_group_mean,
    "rloo": over_the_others,
    "batch": over_group_mean_and_batch_std,
}


def make_advantages(advantages: AdvantageEstimator) -> AdvantageFunction:
    """The function of that name, or an own one as it is.

    Raises:
        ValueError: If it is neither.
    """
    if callable(advantages):
        return advantages
    if not isinstance(advantages, str) or advantages not in ADVANTAGES:
        raise ValueError(
            f"advantages={advantages!r}: must be one of {sorted(ADVANTAGES)} or a function"
        )
    return ADVANTAGES[advantages]


def equal_reward_groups(rewards: torch.Tensor) -> torch.Tensor:
    """True for groups whose rewards are all equal, shape (groups,)."""
    return rewards.amax(dim=1) == rewards.amin(dim=1)


def group_relative_advantages(
    rewards: torch.Tensor, advantages: AdvantageEstimator = "group"
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Advantage of each completion over its group.

    Args:
        rewards: Returns of the completions of the whole batch, shape (groups, group_size),
            group_size >= 2.
        advantages: A name in `ADVANTAGES`, or an own function.

    Returns:
        The advantages, shape (groups, group_size), and metrics: `num_groups_equal_reward`, the
        number of groups whose rewards are all equal. Under the names their advantages are exactly
        0, whatever rounding does to mean and deviation, so they carry no gradient.

    Raises:
        ValueError: If `rewards` is not two-dimensional, has groups of one, or is not finite; if
            `advantages` is unknown, or an own function returns another shape or what is not
            finite.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards: shape {tuple(rewards.shape)}, must be (groups, group_size >= 2)"
        )
    if not torch.isfinite(rewards).all():
        raise ValueError("rewards: must be finite, got NaN or infinity")
    result = make_advantages(advantages)(rewards)
    equal = equal_reward_groups(rewards)
    if isinstance(advantages, str):
        result = result.masked_fill(equal.unsqueeze(1), 0.0)
    elif not isinstance(result, torch.Tensor):
        raise ValueError(
            f"advantages={advantages!r}: must return a tensor of shape {tuple(rewards.shape)}, "
            f"got {result!r:.200}"
        )
    elif result.shape != rewards.shape or not torch.isfinite(result).all():
        raise ValueError(
            f"advantages={advantages!r}: must return finite values of shape "
            f"{tuple(rewards.shape)}, got shape {tuple(result.shape)}, "
            f"{int((~torch.isfinite(result)).sum())} of them not finite"
        )
    return result, {"num_groups_equal_reward": equal.sum()}
