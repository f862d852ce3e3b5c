"""What is compared, and in which runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.update_rules.strongest import CONTENDERS, REFERENCE
from benchmarks.update_rules.training import Budget
from benchmarks.update_rules.variants import Variant
from sfpo_rllib.core import MultiEpoch, Single

BASELINE = "grpo-1x1"
RULES: dict[str, Variant] = {
    name: CONTENDERS[name]
    for name in (BASELINE, REFERENCE, "sfpo-1x16+1", "sfpo-3x4", "sfpo_replay-8x4")
}
STALENESS = (1, 0)  # first what the question is about


def is_plain(variant: Variant) -> bool:
    """Whether it is GRPO: passes, and nothing between them."""
    return isinstance(variant.rule, Single | MultiEpoch)


def at(name: str, max_staleness: int) -> str:
    """Of a rule whose rollouts are so old: the name of its runs."""
    return f"{name}-s{max_staleness}"


def overlapped(rules: Mapping[str, Variant]) -> dict[str, Variant]:
    """Each rule at each staleness, under the names of its runs."""
    return {
        at(name, s): replace(rule, max_staleness=s)
        for name, rule in rules.items()
        for s in STALENESS
    }


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        rules: Those of `RULES`.
        task: Name.
        seeds: Of the runs, others than those that rates were chosen with.
        budget: Of a run.
    """

    rules: Mapping[str, Variant]
    task: str
    seeds: Sequence[int]
    budget: Budget


FULL = Plan(
    RULES,
    "column_addition_6",
    (10, 11, 12),
    Budget(num_batches=80, eval_every=5, eval_samples=512),
)
SMOKE = Plan(
    {name: RULES[name] for name in (BASELINE, REFERENCE, "sfpo-3x4")},
    "column_addition_2",
    (10,),
    Budget(num_batches=6, eval_every=2, eval_samples=128),
)
