"""Group-relative baselines as pure functions."""

import torch


def group_relative_advantages(
    rewards: torch.Tensor, *, normalize: bool = True
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Advantage of each completion over its group's mean reward (GRPO, arXiv 2402.03300, eq. 3).

    Args:
        rewards: Returns of the completions, shape (groups, group_size), group_size >= 2.
        normalize: Divide by the group's standard deviation (unbiased). False gives the Dr. GRPO
            advantage (arXiv 2503.20783), which does not weight easy and hard problems up.

    Returns:
        The advantages, shape (groups, group_size), and metrics: `num_groups_equal_reward`, the
        number of groups whose rewards are all equal. Their advantages are exactly 0, whatever
        rounding does to mean and deviation, so they carry no gradient.

    Raises:
        ValueError: If `rewards` is not two-dimensional, has groups of one, or is not finite.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards: shape {tuple(rewards.shape)}, must be (groups, group_size >= 2)"
        )
    if not torch.isfinite(rewards).all():
        raise ValueError("rewards: must be finite, got NaN or infinity")
    advantages = rewards - rewards.mean(dim=1, keepdim=True)
    if normalize:
        advantages = advantages / (rewards.std(dim=1, keepdim=True) + 1e-6)
    equal = rewards.amax(dim=1) == rewards.amin(dim=1)
    advantages = advantages.masked_fill(equal.unsqueeze(1), 0.0)
    return advantages, {"num_groups_equal_reward": equal.sum()}
