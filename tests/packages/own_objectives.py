"""Losses and advantages of somebody else; torch and the core are all they need."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

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


class Mishap:
    """A loss in which one learner dies or raises, in one call of its first life.

    Args:
        learner: Which of them.
        call: In which call of the loss, from 0.
        flag: A file, made when it happens, after which nothing more does.
        deed: Called there.
    """

    def __init__(self, learner: int, call: int, flag: Path, deed: Callable[[], None]) -> None:
        self.learner, self.call, self.flag, self.deed = learner, call, flag, deed
        self.calls = 0

    def __call__(
        self, inputs: LossInputs, clip: ClipRange
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `core.losses.LossFunction`."""
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        if rank == self.learner and self.calls == self.call and not self.flag.exists():
            self.flag.touch()
            self.deed()
        self.calls += 1
        return -(inputs.log_ratio.exp() * inputs.advantages * inputs.weights).sum(), {}


def die() -> None:
    """As by the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    """As a log or a saved batch would."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
