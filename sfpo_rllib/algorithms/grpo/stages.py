"""What an algorithm is at, so that it can be interrupted where nothing is lost."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import TIMERS


class Staged(Algorithm):
    """An algorithm that knows what it is at.

    Attributes:
        stage: What is under way: "sample", "learn", "sync_weights" or "evaluate"; None in between.
            After an exception in `train()`, where it was raised.
    """

    stage: str | None = None
    _expects_interrupt = False

    def expect_interrupt(self) -> bool:
        """Says that a KeyboardInterrupt may come: an evaluation ends without results then.

        Returns:
            Whether it may: not in between the stages.
        """
        self._expects_interrupt = self.stage is not None
        return self._expects_interrupt

    @contextmanager
    def _timed_stage(self, name: str) -> Iterator[None]:
        self.stage = name
        with self.metrics.log_time((TIMERS, name), reduce="mean", window=1):
            yield
        self.stage = None
