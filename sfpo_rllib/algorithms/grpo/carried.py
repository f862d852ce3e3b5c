"""Values of a config that Tune would forget.

Tune puts placeholders in the place of all that is no plain value in a search space: classes,
functions, objects. `Tuner.restore` does not know what they stood for, so trials that had not begun
when a sweep was interrupted could not be made. Texts it leaves alone, and keeps in its JSON: those
values travel in texts, as where they are imported from, or else pickled.
"""

import base64
import copy
import sys
from typing import Any

from ray import cloudpickle
from ray.tune.search.sample import Categorical, Domain

from sfpo_rllib.core.registry import imported

_PLAIN = (str, bool, int, float, type(None))
_IMPORTED, _PICKLED = "sfpo_rllib imported ", "sfpo_rllib pickled "


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
    if isinstance(value, (*_PLAIN, Domain)):
        return value
    if (where := _where(value)) is not None:
        return _IMPORTED + where
    try:
        content = base64.b64encode(cloudpickle.dumps(value)).decode()
    except Exception:  # what cannot be pickled cannot be sent to a trial either
        return value
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{_PICKLED}{name} {content}"


def _where(value: Any) -> str | None:
    """The `"module:name"` of a class or function, if any process finds it there."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not isinstance(module, str) or getattr(sys.modules.get(module), name, None) is not value:
        return None
    by_value = {"__main__", *cloudpickle.list_registry_pickle_by_value()}
    return None if {module, module.partition(".")[0]} & by_value else f"{module}:{name}"


def unpacked(value: Any) -> Any:
    """What `carried` was given."""
    if isinstance(value, str) and value.startswith(_IMPORTED):
        return imported(value.removeprefix(_IMPORTED))
    if isinstance(value, str) and value.startswith(_PICKLED):
        return cloudpickle.loads(base64.b64decode(value.rpartition(" ")[2]))
    if isinstance(value, dict):
        return {key: unpacked(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(unpacked, value))
    return value
