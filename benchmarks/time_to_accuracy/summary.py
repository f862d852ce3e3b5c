"""From runs to numbers: time to GRPO's best accuracy, measured and modelled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.pool import Result
from benchmarks.time_to_accuracy.rules import BASELINE, IN_TURNS, OVERLAPPED, at, is_plain
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
    rules: Mapping[str, Variant], rates: Mapping[str, float], table: Sequence[Result]
) -> dict[str, Any]:
    """All that is reported.

    Args:
        rules: Those of the table, by name; one of them GRPO.
        rates: Each rule's own.
        table: The finished runs.

    Returns:
        `strongest`: the GRPO of the best mean accuracy where sampling is overlapped. `sample_s`:
        the median of sampling a batch where nothing overlaps. `rows`, one a rule and staleness:
        what `describe` and `compare` say, the latter against each GRPO at the same staleness
        (`vs_grpo`, by its name); `pass_s`, `batch_s` and `modelled_batch_s`;
        `modelled_time_ratio`, the ratio of rollouts to the strongest GRPO times that of modelled
        seconds a batch; `rollouts_ratio_for_goal`, which would make it `GOAL`.
    """
    runs = {
        (name, s): found
        for s in (OVERLAPPED, IN_TURNS)
        for name in rules
        if (found := select(table, variant=at(name, s), lr=rates[name]))
    }
    plain = [name for name in rules if is_plain(rules[name])]
    reference = max(plain, key=lambda name: _mean_best(runs[name, OVERLAPPED]))
    sample_s = _median_s(runs[BASELINE, IN_TURNS], "sample")
    pass_s = {key: _median_s(found, "learn") / rules[key[0]].passes for key, found in runs.items()}
    modelled = {
        (name, s): modelled_s(sample_s, rules[name].passes * pass_s[name, s], s) for name, s in runs
    }
    rows = []
    for (name, s), of_rule in runs.items():
        versus = {p: compare(of_rule, runs[p, s]) for p in plain if (p, s) in runs}
        times_as_long = modelled[name, s] / modelled[reference, s]
        batches = of_rule[0]["budget"]["num_batches"]
        rows.append(
            {
                "rule": name,
                "label": rules[name].label,
                "max_staleness": s,
                "lr": rates[name],
                "passes": rules[name].passes,
                **describe(of_rule, _mean_best(runs[reference, s])),
                "vs_grpo": versus,
                "pass_s": pass_s[name, s],
                "batch_s": float(np.median([r["curve"]["wall_s"][-1] for r in of_rule])) / batches,
                "modelled_batch_s": modelled[name, s],
                "modelled_time_ratio": versus[reference]["rollouts_ratio"]["value"] / times_as_long,
                "rollouts_ratio_for_goal": GOAL * times_as_long,
            }
        )
    return {"strongest": reference, "sample_s": sample_s, "goal": GOAL, "rows": rows}


def _mean_best(runs: Sequence[Result]) -> float:
    return float(np.mean([best_accuracy(run) for run in runs]))


def _median_s(runs: Sequence[Result], stage: str) -> float:
    return float(np.median([run["stages"][stage] for run in runs]))
