"""Two runs, or two evaluations: what differs, how surely, and at what cost."""

from sfpo_rllib.comparison.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
