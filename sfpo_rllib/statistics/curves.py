"""From a run's curve to numbers."""

from collections.abc import Sequence

import numpy as np

SMOOTHING = 3  # evaluations


def smoothed(accuracy: Sequence[float], window: int = SMOOTHING) -> np.ndarray:
    """Mean over an evaluation and its neighbours; at the ends over those that there are.

    Args:
        accuracy: Of each evaluation.
        window: Evaluations that are averaged, an odd number.
    """
    padded = np.pad(np.asarray(accuracy, dtype=float), window // 2, constant_values=np.nan)
    return np.nanmean(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def cost_to_reach(
    accuracy: Sequence[float] | np.ndarray, spent: Sequence[float], target: float
) -> float | None:
    """What a run spends until its accuracy reaches a target.

    Args:
        accuracy: Smoothed, of each evaluation.
        spent: Until each evaluation.
        target: An accuracy.

    Returns:
        Interpolated between evaluations; None if it never gets there.
    """
    curve = np.asarray(accuracy, dtype=float)
    reached = np.flatnonzero(curve >= target)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(spent[0])
    share = (target - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(spent[i - 1] + share * (spent[i] - spent[i - 1]))
