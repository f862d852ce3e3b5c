"""Statistics of runs and evaluations: pure functions of numbers, and nothing of ours below them."""

from sfpo_rllib.statistics.curves import cost_to_reach, smoothed
from sfpo_rllib.statistics.intervals import (
    Estimate,
    bootstrap_interval,
    mean_estimates,
    percentile_interval,
)
from sfpo_rllib.statistics.paired import Difference, by_problem, by_seed
from sfpo_rllib.statistics.repeated import majority_share, pass_at_k, powers_of_two

__all__ = [
    "Difference",
    "Estimate",
    "bootstrap_interval",
    "by_problem",
    "by_seed",
    "cost_to_reach",
    "majority_share",
    "mean_estimates",
    "pass_at_k",
    "percentile_interval",
    "powers_of_two",
    "smoothed",
]
