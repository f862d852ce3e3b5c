"""Starting Ray, which now and then fails on a busy machine."""

import logging
from collections.abc import Callable
from typing import Any

import ray

logger = logging.getLogger(__name__)


class RayDidNotStart(OSError):
    """Ray was tried twice; the message is one line."""


def _log(line: str) -> None:
    logger.warning(line)


def start_ray(*, say: Callable[[str], None] = _log, **settings: Any) -> None:
    """Starts Ray, or connects to the cluster that RAY_ADDRESS names; once more if that fails.

    Args:
        say: Called with a line if it is tried once more.
        **settings: Of `ray.init()`.

    Raises:
        RayDidNotStart: If it failed again, with the reason.
    """
    for is_last in (False, True):
        try:
            ray.init(**settings)
            return
        except Exception as error:
            ray.shutdown()
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            if is_last:
                raise RayDidNotStart(f"ray does not start, twice tried: {reason}") from error
            say(f"ray did not start ({reason}); once more")
