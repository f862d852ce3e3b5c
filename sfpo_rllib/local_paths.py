"""Where a user wants something written: on this machine, and nowhere else."""

import os
import re
from pathlib import Path
from typing import Any

# Also of a path that `Path` has taken a slash from.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_path(field: str, given: Any) -> Path:
    """A path that a user gives, `~` being the home folder.

    Args:
        field: What it is the value of.
        given: A text or a path.

    Raises:
        ValueError: If it is empty, a URI or no path at all.
    """
    is_path = isinstance(given, str | os.PathLike) and isinstance(os.fspath(given), str)
    text = os.fspath(given) if is_path else ""
    # An empty one would be the working directory.
    if not text.strip() or _SCHEME.match(text):
        raise ValueError(f"{field}={given!r}: must be a path on this machine")
    return Path(text).expanduser()
