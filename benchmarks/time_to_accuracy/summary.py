"""From runs to numbers: time to the strongest GRPO's best accuracy, measured and modelled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.pool import Result
from benchmarks.time_to_accuracy.rules import STALENESS, at
from benchmarks.update_rules.analysis import (
    best_accuracy,
    compare,
    describe,
    modelled_s,
    select,
)
from benchmarks.update_rules.variants import Variant

GOAL = 4.19  # times less wall-clock than GRPO, as published for SFPO


def summarize(
    rules: Mapping[str, Variant],
    reference: str,
    rates: Mapping[str, float],
    table: Sequence[Result],
) -> dict[str, Any]:
    """All that is reported.

    Args:
        rules: Those of the table, by name.
        reference: The name of the strongest GRPO.
        rates: Each rule's own.
        table: The finished runs.

    Returns:
        `sample_s`: the median of sampling a batch where nothing overlaps. `rows`, a rule and
        staleness each: what `describe` and `compare` say, the latter against the strongest GRPO at
        the same staleness (`vs_strongest`) and at none (`vs_in_turns`); `batch_s` and
        `modelled_batch_s`; `modelled_time_ratio`, the ratio of rollouts times that of modelled
        seconds a batch; `rollouts_ratio_for_goal`, which would make it `GOAL`.
    """
    runs = {
        (name, s): select(table, variant=at(name, s), lr=rates[name])
        for name in rules
        for s in STALENESS
    }
    sample_s = float(np.median([r["stages"]["sample"] for name in rules for r in runs[name, 0]]))
    pass_s = {
        name: float(np.median([r["stages"]["learn"] for r in runs[name, 0]])) / rule.passes
        for name, rule in rules.items()
    }
    modelled = {
        (name, s): modelled_s(sample_s, rules[name].passes * pass_s[name], s) for name, s in runs
    }
    rows = []
    for (name, s), of_rule in runs.items():
        base = runs[reference, s]
        target = float(np.mean([best_accuracy(run) for run in base]))
        versus = compare(of_rule, base)
        times_as_long = modelled[name, s] / modelled[reference, s]
        batches = of_rule[0]["budget"]["num_batches"]
        rows.append(
            {
                "rule": name,
                "label": rules[name].label,
                "max_staleness": s,
                "lr": rates[name],
                "passes": rules[name].passes,
                **describe(of_rule, target),
                "vs_strongest": versus,
                "vs_in_turns": compare(of_rule, runs[reference, 0]),
                "pass_s": pass_s[name],
                "batch_s": float(np.median([r["curve"]["wall_s"][-1] for r in of_rule])) / batches,
                "modelled_batch_s": modelled[name, s],
                "modelled_time_ratio": versus["rollouts_ratio"]["value"] / times_as_long,
                "rollouts_ratio_for_goal": GOAL * times_as_long,
            }
        )
    return {"strongest": reference, "sample_s": sample_s, "goal": GOAL, "rows": rows}
