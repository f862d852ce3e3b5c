"""The results as tables for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

Results = Mapping[str, Any]


def weight_sync(before: Results, now: Results) -> Iterator[str]:
    """Copies of the weights that a sync makes, and its seconds."""
    labels = {
        "stored_copies": "into the object store",
        "learner_copies": "the learner's process",
        "driver_copies": "the driver",
        "runner_0_copies": "a runner, besides its engine",
        "publish_s": "seconds until published",
        "load_s": "seconds until loaded",
    }
    yield "| copies | before | now |"
    yield "|---|---|---|"
    for name, label in labels.items():
        cells = [f"{results['median'][name]:.2f}" for results in (before, now)]
        yield f"| {label} | " + " | ".join(cells) + " |"
