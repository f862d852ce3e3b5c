"""What is said of names that do not exist: the nearest one that does."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def instead(name: object, known: Iterable[str]) -> str:
    """Return which names there are, the nearest first, as the end of a message.

    Args:
        name: The name that does not exist.
        known: Those that do.
    """
    known = list(map(str, known))
    nearest = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}must be one of {', '.join(known)}"


def check_operators(operators: Sequence[str], known: Iterable[str]) -> None:
    """Raise unless there are operators, each once, and all are known.

    Raises:
        ValueError: There are none, one stands there twice, or one is not known.
    """
    if not operators or len(set(operators)) < len(operators):
        raise ValueError(f"operators={operators!r}: must name at least one, each only once")
    if unknown := set(operators).difference(known):
        raise ValueError(f"operators={operators!r}: {min(unknown)!r} is none of {', '.join(known)}")


def refuse_unknown(options: Mapping[str, Any], taken_by: Callable[..., Any]) -> None:
    """Raise if there are options that a function or class has no parameter for.

    Args:
        options: Options that were left over, or all of them.
        taken_by: What they are meant for.

    Raises:
        ValueError: An option is unknown; the message names the nearest.
    """
    parameters = inspect.signature(taken_by).parameters.values()
    known = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"{name}={value!r}: no such option; {instead(name, known)}")
