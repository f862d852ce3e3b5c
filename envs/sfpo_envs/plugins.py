"""Environments of other packages, registered by being installed.

A package announces them in its ``pyproject.toml``, with the namespace of their ids as the name:

    [project.entry-points."sfpo_rllib.envs"]
    acme = "acme_envs"

The value is a module that calls :func:`gymnasium.register` when imported, or a function of such a
module (``"acme_envs:register"``) that is then called without arguments.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium

if TYPE_CHECKING:
    from sfpo_envs.graders import Grader

GROUP = "sfpo_rllib.envs"

logger = logging.getLogger(__name__)


class FailedPlugin(NamedTuple):
    """A plug-in that could not be loaded.

    Attributes:
        namespace: Name of its entry point.
        distribution: Name and version of the installed package that it is part of.
        error: What it raised.
    """

    namespace: str
    distribution: str
    error: Exception

    def __str__(self) -> str:
        return f"the environments of {self.distribution} could not be loaded: {self.error!r}"


@functools.cache
def load() -> tuple[FailedPlugin, ...]:
    """Load every installed plug-in, once a process.

    Returns:
        Those that failed. Each has been logged as a warning.
    """
    failed = []
    for entry_point in entry_points(group=GROUP):
        try:
            plugin = entry_point.load()
            if callable(plugin):
                plugin()
        except Exception as error:
            failed.append(FailedPlugin(entry_point.name, _distribution(entry_point), error))
            logger.warning("%s", failed[-1], exc_info=error)
    return tuple(failed)


def make(env_id: str, /, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment like :func:`gymnasium.make`, with the plug-ins loaded.

    Args:
        env_id: An id that gymnasium or a plug-in knows.
        **kwargs: For :func:`gymnasium.make`.

    Raises:
        gymnasium.error.UnregisteredEnv: Nobody registered the id. The message names plug-ins that
            could not be loaded and may be why.
    """
    failed = load()
    try:
        return gymnasium.make(env_id, **kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        namespace = env_id.partition(":")[2] or env_id
        suspects = [f for f in failed if f.namespace == namespace.partition("/")[0]] or failed
        if not suspects:
            raise
        reasons = "; ".join(map(str, suspects))
        raise gymnasium.error.UnregisteredEnv(f"{error} {reasons}") from suspects[0].error


def make_grader(grader: str | Callable[[str, str], Any], /, **settings: Any) -> Grader:
    """Make a grader like :func:`sfpo_envs.graders.make_grader`, which says what it raises."""
    from sfpo_envs import graders  # reads sympy, which takes a while

    return graders.make_grader(grader, **settings)


def _distribution(entry_point: EntryPoint) -> str:
    if entry_point.dist is None:
        return "an unknown distribution"
    return f"{entry_point.dist.name} {entry_point.dist.version}"
