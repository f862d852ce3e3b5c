"""Starting Ray, which now and then fails on a busy machine."""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import ray

CONNECT_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class RayDidNotStart(OSError):
    """Ray was tried twice, or its cluster is not there; the message is one line."""


def start_ray(*, say: Callable[[str], None] = logger.warning, **settings: Any) -> None:
    """Starts Ray, or connects to the cluster that RAY_ADDRESS names; once more if that fails.

    Args:
        say: Called with a line if it is tried once more.
        **settings: Of `ray.init()`.

    Raises:
        RayDidNotStart: If it failed again, with the reason; at once if nothing listens where the
            cluster should be, which Ray would try for minutes.
    """
    if "address" not in settings:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
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


def _check_address(address: str) -> None:
    """Raises RayDidNotStart if it is HOST:PORT and nobody listens there."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise RayDidNotStart(
            f"RAY_ADDRESS={address!r}: must be where a cluster listens, or unset to start one "
            f"here; nobody answers ({error})"
        ) from error
