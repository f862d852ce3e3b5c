"""What every benchmark writes down, and the statistics it reports."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sfpo_rllib.provenance import machine, versions

Statistic = Callable[..., Any]  # of an array, and an axis to reduce


def environment_record() -> dict[str, Any]:
    """Where, with what and how this process runs: machine, versions, commit, command, date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": _git_commit(),
        "machine": machine(),
        "versions": versions(),
    }


def bootstrap_interval(
    values: Sequence[float],
    statistic: Statistic = np.median,
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of independent values.

    Args:
        values: One a seed.
        statistic: A function of an array and an axis, as numpy's are.
        level: Probability that the interval covers.
        num_resamples: Resamples with replacement.
        seed: Of the resamples.

    Returns:
        Lower and upper bound; NaN without values.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return math.nan, math.nan
    picks = np.random.default_rng(seed).integers(len(data), size=(num_resamples, len(data)))
    statistics = statistic(data[picks], axis=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(statistics, [tail, 1.0 - tail])
    return float(low), float(high)


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
