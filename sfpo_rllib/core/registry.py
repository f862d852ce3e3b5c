"""Registries of classes and functions: imported when they are asked for, called with a user's own.

A registry maps a name to `"module:name"`, so that what is not chosen need not be installed.
"""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sfpo_rllib.core.checks import nearest


def imported(where: str) -> Any:
    """What `"module:name"` stands for."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def name_of(choice: Any) -> str:
    """A name as it is; of a user's own class or function what it is called."""
    if isinstance(choice, str):
        return choice
    called = getattr(choice, "func", choice)  # of a functools.partial
    return str(getattr(called, "__qualname__", type(called).__qualname__))


def parameters_of(function: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """A function's parameters by name, and whether it takes any other too."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some of C have none
        return {}, True
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def argument_problems(
    field: str,
    given: Mapping[str, Any],
    function: Callable[..., Any],
    *,
    name: str,
    elsewhere: Mapping[str, str],
    hidden: Collection[str] = (),
) -> Iterator[str]:
    """What is wrong with a user's settings as arguments of a function.

    Args:
        field: The setting that they were given in.
        given: The settings.
        function: What will be called with them.
        name: What the user calls it.
        elsewhere: Parameters that have a setting of their own, and what that is called.
        hidden: Parameters that are no user's to set.
    """
    named, anything = parameters_of(function)
    known = sorted({*named} - {*elsewhere} - {*hidden})
    for key, value in given.items():
        if key in elsewhere:
            yield f"{field}[{key!r}]={value!r}: set {elsewhere[key]} instead"
        elif key in hidden or not (anything or key in known):
            yield f"{field}[{key!r}]={value!r}: {name!r} has only {known}{nearest(key, known)}"
    missing = [k for k in known if named[k].default is inspect.Parameter.empty and k not in given]
    if missing:
        yield f"{field}={dict(given)!r}: must have {missing}, which {name!r} cannot do without"
