"""The entropy z-score that switches SFPO off for good (arXiv 2510.04072, alpha schedule)."""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

from sfpo_rllib.core.checks import Kind, integer, is_number, number, raise_problems, value_problems


class EntropyTrigger:
    """Fires once the policy's entropy stands out above its recent values, and stays fired.

    Z_s = (H_s - mean_w) / (std_w + 1e-9) over the last `window` entropies, the newest included,
    with the population standard deviation. It fires at the first s >= window with
    Z_s >= threshold. As the newest value is inside the window, Z_s stays below
    sqrt(window - 1): a threshold of that or more never fires. Entropy is noisy: with `patience` it
    takes that many such values in a row, and none of the first `warmup` values is one of them.

    Attributes:
        fired: Whether the trigger has fired.
        z: The newest z-score, None before the window is full. Frozen once fired.
    """

    def __init__(
        self, window: int = 30, threshold: float = 1.0, *, warmup: int = 0, patience: int = 1
    ) -> None:
        """Initializes an armed trigger.

        Args:
            window: w >= 2, the number of entropies looked at.
            threshold: The z-score from which on it fires, in standard deviations.
            warmup: It cannot fire in so many first updates, whatever their entropies.
            patience: So many z-scores in a row, after the warm-up, must reach the threshold.

        Raises:
            ValueError: If one of them is out of range.
        """
        raise_problems(trigger_problems(window, threshold, warmup=warmup, patience=patience))
        self.window = window
        self.threshold = threshold
        self.warmup = warmup
        self.patience = patience
        self.fired = False
        self.z: float | None = None
        self._num_seen = 0
        self._in_a_row = 0
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
        self._num_seen += 1
        if len(self._entropies) == self.window:
            mean = statistics.fmean(self._entropies)
            std = statistics.pstdev(self._entropies, mean)
            self.z = (self._entropies[-1] - mean) / (std + 1e-9)
            stands_out = self.z >= self.threshold and self._num_seen > self.warmup
            self._in_a_row = self._in_a_row + 1 if stands_out else 0
            self.fired = self._in_a_row >= self.patience
        return self.fired

    def state_dict(self) -> dict[str, Any]:
        """Returns all that `load_state_dict` needs; settings stay the config's."""
        return {
            "entropies": list(self._entropies),
            "fired": self.fired,
            "z": self.z,
            "num_seen": self._num_seen,
            "in_a_row": self._in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`. With a smaller window than it was saved with, keeps the newest."""
        self._entropies = deque(state["entropies"], maxlen=self.window)
        self.fired = bool(state["fired"])
        self.z = state["z"]
        # Earlier releases had neither.
        self._num_seen = int(state.get("num_seen", len(state["entropies"])))
        self._in_a_row = int(state.get("in_a_row", 0))


def trigger_problems(
    window: Any,
    threshold: Any,
    names: Sequence[str] = ("window", "threshold", "warmup", "patience"),
    *,
    warmup: Any = 0,
    patience: Any = 1,
    must_fire: bool = False,
) -> list[str]:
    """What is wrong with a trigger's settings, each as `field=value: what would be right`.

    Args:
        window: See `EntropyTrigger`.
        threshold: See `EntropyTrigger`.
        names: What these are called where they were given, and the next two.
        warmup: See `EntropyTrigger`.
        patience: See `EntropyTrigger`.
        must_fire: Whether a threshold that nothing reaches is a problem, too.
    """
    values = dict(zip(names, (window, threshold, warmup, patience), strict=True))
    z_score = Kind(lambda z: is_number(z) or z in (math.inf, -math.inf), "a number, not NaN")
    of_threshold = number() if must_fire else z_score
    kinds = dict(zip(names, (integer(2), of_threshold, integer(0), integer(1)), strict=True))
    problems = value_problems(values, kinds)
    if must_fire and not problems and threshold >= math.sqrt(window - 1):
        problems.append(
            f"{names[1]}={threshold!r}: must be below sqrt({names[0]} - 1) = "
            f"{math.sqrt(window - 1):.3g}, which no z-score reaches: it would never fire"
        )
    return problems
