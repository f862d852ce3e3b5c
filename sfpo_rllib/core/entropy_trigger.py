"""The entropy z-score that switches SFPO off for good (arXiv 2510.04072, alpha schedule)."""

import math
import statistics
from collections import deque
from typing import Any


class EntropyTrigger:
    """Fires once the policy's entropy stands out above its recent values, and stays fired.

    Z_s = (H_s - mean_w) / (std_w + 1e-9) over the last `window` entropies, the newest included,
    with the population standard deviation. It fires at the first s >= window with
    Z_s >= threshold. As the newest value is inside the window, Z_s cannot exceed
    sqrt(window - 1): a larger threshold never fires.

    Attributes:
        fired: Whether the trigger has fired.
        z: The newest z-score, None before the window is full. Frozen once fired.
    """

    def __init__(self, window: int = 30, threshold: float = 1.0) -> None:
        """Initializes an armed trigger.

        Args:
            window: w >= 2, the number of entropies looked at.
            threshold: The z-score from which on it fires, in standard deviations.

        Raises:
            ValueError: If `window` or `threshold` is out of range.
        """
        check_entropy_trigger(window=window, threshold=threshold)
        self.window = window
        self.threshold = threshold
        self.fired = False
        self.z: float | None = None
        self._entropies: deque[float] = deque(maxlen=window)

    def update(self, entropy: float) -> bool:
        """Takes in the newest entropy (nats per token).

        Args:
            entropy: H_s. With several learners, the all-reduced mean, or replicas would switch
                SFPO off at different steps and drift apart.

        Returns:
            Whether the trigger has fired, now or earlier.

        Raises:
            ValueError: If `entropy` is not finite.
        """
        if not math.isfinite(entropy):
            raise ValueError(f"entropy={entropy}: must be finite")
        if self.fired:
            return True
        self._entropies.append(float(entropy))
        if len(self._entropies) == self.window:
            mean = statistics.fmean(self._entropies)
            std = statistics.pstdev(self._entropies, mean)
            self.z = (self._entropies[-1] - mean) / (std + 1e-9)
            self.fired = self.z >= self.threshold
        return self.fired

    def state_dict(self) -> dict[str, Any]:
        """Returns all that `load_state_dict` needs; window and threshold stay the config's."""
        return {"entropies": list(self._entropies), "fired": self.fired, "z": self.z}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`. With a smaller window than it was saved with, keeps the newest."""
        self._entropies = deque(state["entropies"], maxlen=self.window)
        self.fired = bool(state["fired"])
        self.z = state["z"]


def check_entropy_trigger(*, window: int, threshold: float) -> None:
    """Raises a ValueError that names the field if a setting is out of range."""
    if isinstance(window, bool) or not isinstance(window, int) or window < 2:
        raise ValueError(f"window={window!r}: must be an integer >= 2")
    if not isinstance(threshold, int | float) or math.isnan(threshold):
        raise ValueError(f"threshold={threshold!r}: must be a number, not NaN")
