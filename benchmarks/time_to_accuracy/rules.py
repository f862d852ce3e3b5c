"""What is compared, and in which runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.update_rules.strongest import CONTENDERS, REFERENCE
from benchmarks.update_rules.training import Budget
from benchmarks.update_rules.variants import Variant
from sfpo_rllib.core import MultiEpoch, Single

BASELINE = "grpo-1x1"
RULES: dict[str, Variant] = {
    name: CONTENDERS[name]
    for name in (
        BASELINE,
        "grpo-1x16",
        "grpo-2x16",
        REFERENCE,
        "lookahead-1x16",
        "sfpo-1x16+1",
        "sfpo-3x4",
        "sfpo_replay-8x4",
    )
}
OVERLAPPED, IN_TURNS = 1, 0


def is_plain(variant: Variant) -> bool:
    """Whether it is GRPO: passes, and nothing between them."""
    return isinstance(variant.rule, Single | MultiEpoch)


def at(name: str, max_staleness: int) -> str:
    """Of a rule whose rollouts are so old: the name of its runs."""
    return f"{name}-s{max_staleness}"


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        rules: Those of `RULES`.
        task: Name.
        seeds: Of the overlapped runs, others than those that rates were chosen with.
        in_turns: Rules that are run in turns too, with the first seed, for what sampling and
            passes take by themselves.
        budget: Of a run.
    """

    rules: Mapping[str, Variant]
    task: str
    seeds: Sequence[int]
    in_turns: Sequence[str]
    budget: Budget

    def runs(self) -> Iterator[tuple[str, int, int]]:
        """Each run's rule, staleness and seed."""
        for seed in self.seeds:
            for name in self.rules:
                yield name, OVERLAPPED, seed
        for name in self.in_turns:
            if name in self.rules:
                yield name, IN_TURNS, self.seeds[0]


FULL = Plan(
    RULES,
    "column_addition_6",
    (10, 11, 12),
    (BASELINE,),
    Budget(num_batches=80, eval_every=5, eval_samples=512),
)
SMOKE = Plan(
    {name: RULES[name] for name in (BASELINE, REFERENCE, "sfpo-3x4")},
    "column_addition_2",
    (10,),
    (BASELINE,),
    Budget(num_batches=6, eval_every=2, eval_samples=128),
)
