"""Learning rates that advance once a batch of rollouts; a warm-up may do so once a step."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sfpo_rllib.core.checks import (
    Kind,
    integer,
    is_int,
    is_number,
    none,
    number,
    one_of,
    raise_problems,
    value_problems,
)

_DECAYS = ("linear", "cosine")
LR_SCHEDULES = ("constant", *_DECAYS)


@dataclass(frozen=True)
class LRSchedule:
    """Warm-up, then constant or down to a share of the peak.

    All optimizer steps on one batch have one rate, whatever the passes of its update, but for those
    of a warm-up in optimizer steps. It depends on the numbers of the batch and the step alone, so
    that a restored run goes on where it was.

    Attributes:
        lr: The peak, >= 0.
        lr_schedule: "constant", "linear" or "cosine".
        lr_warmup_batches: So many batches are trained below the peak, rising in equal steps.
        lr_warmup_steps: Instead, so many optimizer steps are. A decay does not wait for them.
        lr_total_batches: The batch from which on the rate is at its lowest; None if constant.
        lr_min_ratio: The lowest rate as a share of the peak, in [0, 1].
    """

    lr: float
    lr_schedule: str = "constant"
    lr_warmup_batches: int = 0
    lr_warmup_steps: int = 0
    lr_total_batches: int | None = None
    lr_min_ratio: float = 0.0

    def __post_init__(self) -> None:
        raise_problems(self.problems())

    def problems(self) -> list[str]:
        """What is wrong with the settings, each as `field=value: what would be right`."""
        warmup, total = self.lr_warmup_batches, self.lr_total_batches
        kinds = {
            "lr": number(least=0.0),
            "lr_schedule": one_of(*LR_SCHEDULES),
            "lr_warmup_batches": integer(0),
            "lr_warmup_steps": integer(0),
            "lr_min_ratio": number(least=0.0, most=1.0),
            "lr_total_batches": integer(1) | none(),
        }
        decays = self.lr_schedule in _DECAYS
        if decays:
            kinds["lr_total_batches"] = Kind(
                is_int, f"an integer with lr_schedule={self.lr_schedule!r}"
            )
        problems = value_problems(self, kinds)
        if self.lr_schedule == LR_SCHEDULES[0] and not problems:
            problems += [
                f"{name}={value!r}: must be {default!r} with lr_schedule={self.lr_schedule!r}, "
                f"which does not decay; {' and '.join(_DECAYS)} do"
                for name, value, default in (
                    ("lr_total_batches", total, None),
                    ("lr_min_ratio", self.lr_min_ratio, 0.0),
                )
                if value != default
            ]
        if decays and not problems and total is not None and total <= warmup:
            problems.append(
                f"lr_total_batches={total!r}: must be above lr_warmup_batches={warmup!r}"
            )
        if not problems and warmup and self.lr_warmup_steps:
            problems.append(
                f"lr_warmup_steps={self.lr_warmup_steps!r}: must be 0 with "
                f"lr_warmup_batches={warmup!r}; either steps or batches are warmed up over"
            )
        return problems

    def warmup_share(self, step: int) -> float:
        """The share of the batch's rate that an optimizer step has, counted from 0, in (0, 1]."""
        return min((step + 1) / (self.lr_warmup_steps + 1), 1.0)

    def at(self, batch: int) -> float:
        """The learning rate of a batch, counted from 0, once `lr_warmup_steps` are over."""
        warmup = self.lr_warmup_batches
        if batch < warmup:
            return self.lr * (batch + 1) / (warmup + 1)  # the first batch is not trained at 0
        if self.lr_total_batches is None:  # it is constant
            return self.lr
        progress = min((batch - warmup) / (self.lr_total_batches - warmup), 1.0)
        share = 1.0 - progress
        if self.lr_schedule == "cosine":
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.lr * (self.lr_min_ratio + (1.0 - self.lr_min_ratio) * share)


def timestep_schedule_problems(lr: Sequence[Any], beside: LRSchedule) -> list[str]:
    """What is wrong with RLlib's `[[timestep, lr], ...]`, beside settings of ours."""
    rates = [pair[-1] for pair in lr if isinstance(pair, list | tuple) and len(pair) == 2]
    if len(rates) < len(lr) or not all(is_number(rate, least=0.0) for rate in rates):
        return [f"lr={lr!r}: must be a number >= 0, or [[timestep, number >= 0], ...]"]
    times = [pair[0] for pair in lr]
    rises = all(is_number(time) for time in times) and all(map(operator.lt, times, times[1:]))
    if len(times) < 2 or not rises or times[0] != 0:
        return [
            f"lr={lr!r}: must have two timesteps or more, numbers that begin with 0 and rise from "
            "one to the next"
        ]
    warmups = ("lr_warmup_batches", "lr_warmup_steps")
    set_too = [name for name in warmups if getattr(beside, name)]
    if beside.lr_schedule != "constant" or set_too:
        own = [f"{n}={getattr(beside, n)!r}" for n in ("lr_schedule", *(set_too or warmups[:1]))]
        return [
            f"lr={lr!r}: must be a number with {' and '.join(own)}; either a schedule of "
            "timesteps or one of batches and steps"
        ]
    return []
