"""Results of calls on RLlib's actors."""

from collections.abc import Iterable
from typing import Any

from ray.rllib.utils.actor_manager import CallResult


def values_of(results: Iterable[CallResult]) -> list[Any]:
    """The values of calls on all actors, in order.

    Raises:
        Exception: What was raised by the first that failed; `CallResult.get()` would return it.
    """
    values = []
    for result in results:
        if not result.ok:
            raise result.get()
        values.append(result.get())
    return values
