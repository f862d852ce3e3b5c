"""Values of a config that Tune would forget.

Tune puts placeholders in the place of all that is no plain value in a search space: classes,
functions, objects. `Tuner.restore` does not know what they stood for: trials that had not begun
when the sweep was interrupted could not be made. Texts it leaves alone, so those values travel as
texts that have them along.
"""

import copy
from typing import Any

from ray.tune.search.sample import Categorical, Domain

PLAIN = (str, bool, int, float, type(None))


class Carried(str):
    """A text, for Tune and for people, with the value it stands for."""

    value: Any

    def __new__(cls, value: Any) -> "Carried":
        """The text of a value."""
        text = super().__new__(cls, repr(value))
        text.value = value
        return text

    def __reduce__(self) -> tuple[type["Carried"], tuple[Any]]:
        return Carried, (self.value,)


def carried(value: Any) -> Any:
    """The value with all in it that is not plain as texts; what Tune is to choose from stays."""
    if isinstance(value, dict):
        return {key: carried(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(carried, value))
    if isinstance(value, Categorical):
        choice = copy.copy(value)
        choice.categories = carried(value.categories)
        return choice
    if isinstance(value, (*PLAIN, Domain)):
        return value
    return Carried(value)


def unpacked(value: Any) -> Any:
    """What `carried` was given."""
    if isinstance(value, Carried):
        return value.value
    if isinstance(value, dict):
        return {key: unpacked(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(unpacked, value))
    return value
