"""What every benchmark writes down."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sfpo_rllib.provenance import machine, versions


def environment_record() -> dict[str, Any]:
    """Where, with what and how this process runs: machine, versions, commit, command, date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": _git_commit(),
        "machine": machine(),
        "versions": versions(),
    }


def write_json(path: Path, content: Any) -> None:
    """Writes the file whole or not at all: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, allow_nan=False)
    # A list of numbers on one line.
    text = re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(text + "\n")
    partial.replace(path)


def _git_commit() -> str | None:
    """The commit of the working tree, marked where it has changes."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or None


def interval(statistic: Mapping[str, Any], digits: int, unit: str = "") -> str:
    """`0.50 (0.40 to 0.60)`."""
    low, high = statistic["interval"]
    return f"{statistic['value']:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"
