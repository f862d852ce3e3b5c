"""What is compared, and in which runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.update_rules.table import Protocol
from benchmarks.update_rules.training import Budget
from benchmarks.update_rules.variants import Variant
from sfpo_rllib.core import MultiEpoch, Single, SlowFast

ALPHA = 0.3
BASELINE = "grpo-1x1"
RULES: dict[str, Variant] = {
    BASELINE: Variant(Single(), "GRPO, one step"),
    "grpo-1x4": Variant(Single(), "GRPO, 4 mini-batches", minibatches=4),
    "grpo-2x4": Variant(MultiEpoch(2), "GRPO, 2 epochs x 4", minibatches=4),
    "grpo-4x4": Variant(MultiEpoch(4), "GRPO, 4 epochs x 4", minibatches=4),
    "sfpo-1x4": Variant(SlowFast(1, ALPHA), f"SFPO, K=1, alpha={ALPHA}, x 4", minibatches=4),
    "sfpo-3x4": Variant(SlowFast(3, ALPHA), f"SFPO, K=3, alpha={ALPHA}, x 4", minibatches=4),
}
STALENESS = (0, 1)


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
        protocol: Their rates, and the seeds.
        budget: Of a run.
    """

    rules: Mapping[str, Variant]
    protocol: Protocol
    budget: Budget


def _plan(
    rules: Mapping[str, Variant],
    task: str,
    *,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    extra: int,
    budget: Budget,
) -> Plan:
    protocol = Protocol(
        variants=tuple(rules),
        tasks=(task,),
        rates=rates,
        grid_seeds=(0,),
        table_seeds=seeds,
        at_baseline_rate=(),
        conservative=(),
        max_extra_rates=extra,
    )
    return Plan(rules, protocol, budget)


FULL = _plan(
    RULES,
    "column_addition_6",
    rates=(1.5e-4, 3e-4),
    seeds=(10, 11, 12),
    extra=1,
    budget=Budget(num_batches=120, eval_every=6, eval_samples=1024),
)
SMOKE = _plan(
    {name: RULES[name] for name in ("grpo-1x1", "sfpo-1x4")},
    "column_addition_2",
    rates=(3e-4,),
    seeds=(10,),
    extra=0,
    budget=Budget(num_batches=6, eval_every=2, eval_samples=128),
)
