"""What a value is, for checks of settings."""

import math
from typing import Any


def is_int(value: Any, least: int) -> bool:
    """Whether it is an integer, and no less."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any, *, least: float = -math.inf, above: float = -math.inf) -> bool:
    """Whether it is a number within the bounds. NaN fails every comparison."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value >= least
        and value > above
    )
