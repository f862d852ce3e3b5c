"""Whether the weights on their way, and what is sampled, fit into Ray's object store."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sfpo_rllib.env_runners.engines.memory import GB


def object_store_problems(needed: int, nodes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What does not fit, and what would be right.

    Args:
        needed: Bytes on each machine.
        nodes: As `ray.nodes()` returns them.
    """
    sizes = [node["Resources"].get("object_store_memory", 0) for node in nodes if node.get("Alive")]
    there = min(sizes, default=0)
    if sizes and needed > there:
        yield (
            f"object_store_memory={there / GB:.1f} GB: must be at least {needed / GB:.1f} GB on "
            "every machine, which weights on their way to the engines and sampled tokens may "
            "take, or Ray writes them to disk; `ray.init(object_store_memory=...)` or `ray start "
            "--object-store-memory` sets it, and a smaller max_staleness takes less"
        )
