"""Learning rates that advance once a batch of rollouts."""

import math
from dataclasses import dataclass
from typing import Any

LR_SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class LRSchedule:
    """Warm-up, then constant or down to a share of the peak.

    All optimizer steps on one batch have one rate, whatever the passes of its update. It depends
    on the number of the batch alone, so that a restored run goes on where it was.

    Attributes:
        lr: The peak, >= 0.
        lr_schedule: "constant", "linear" or "cosine".
        lr_warmup_batches: So many batches are trained below the peak, rising in equal steps.
        lr_total_batches: The batch from which on the rate is at its lowest; None if constant.
        lr_min_ratio: The lowest rate as a share of the peak, in [0, 1].
    """

    lr: float
    lr_schedule: str = "constant"
    lr_warmup_batches: int = 0
    lr_total_batches: int | None = None
    lr_min_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not _is_number(self.lr) or not 0.0 <= self.lr < math.inf:
            raise ValueError(f"lr={self.lr!r}: must be a number >= 0")
        if self.lr_schedule not in LR_SCHEDULES:
            raise ValueError(f"lr_schedule={self.lr_schedule!r}: must be one of {LR_SCHEDULES}")
        warmup, total = self.lr_warmup_batches, self.lr_total_batches
        if not _is_int(warmup) or warmup < 0:
            raise ValueError(f"lr_warmup_batches={warmup!r}: must be an integer >= 0")
        if self.lr_schedule != "constant" and (total is None or not _is_int(total)):
            raise ValueError(
                f"lr_total_batches={total!r}: must be an integer with "
                f"lr_schedule={self.lr_schedule!r}"
            )
        if self.lr_schedule != "constant" and total is not None and total <= warmup:
            raise ValueError(
                f"lr_total_batches={total!r}: must be above lr_warmup_batches={warmup!r}"
            )
        if not _is_number(self.lr_min_ratio) or not 0.0 <= self.lr_min_ratio <= 1.0:
            raise ValueError(f"lr_min_ratio={self.lr_min_ratio!r}: must be a number in [0, 1]")

    def at(self, batch: int) -> float:
        """The learning rate of a batch, counted from 0."""
        warmup = self.lr_warmup_batches
        if batch < warmup:
            return self.lr * (batch + 1) / (warmup + 1)  # the first batch is not trained at 0
        if self.lr_total_batches is None or self.lr_schedule == "constant":
            return self.lr
        progress = min((batch - warmup) / (self.lr_total_batches - warmup), 1.0)
        share = 1.0 - progress
        if self.lr_schedule == "cosine":
            share = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.lr * (self.lr_min_ratio + (1.0 - self.lr_min_ratio) * share)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
