"""Losses and advantages of somebody else; torch and the core are all they need."""

import torch

from sfpo_rllib.core import ClipRange, LossInputs


def positive_only(
    inputs: LossInputs, clip: ClipRange
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Learns from what went better than its group, and tells how much that is."""
    good = inputs.advantages.clamp(min=0)
    loss = -(inputs.log_ratio.exp() * good * inputs.weights).sum()
    metrics = {
        "good_tokens": ((good > 0) & inputs.mask).sum(),
        "greatest_advantage_max": inputs.advantages.max(),
    }
    return loss, metrics


def over_the_mean_of_all(rewards: torch.Tensor) -> torch.Tensor:
    """Compares replies to different problems, which an all-gather makes the same everywhere."""
    return rewards - rewards.mean()


class NotFinite:
    """A loss that is not finite where `broken` says so, by the number of the call."""

    def __init__(self, *broken: bool, then: bool = False) -> None:
        self.broken, self.then = list(broken), then

    def __call__(
        self, inputs: LossInputs, clip: ClipRange
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `core.losses.LossFunction`."""
        broken = self.broken.pop(0) if self.broken else self.then
        loss = -(inputs.log_ratio.exp() * inputs.advantages * inputs.weights).sum()
        return loss * (float("nan") if broken else 1.0), {}
