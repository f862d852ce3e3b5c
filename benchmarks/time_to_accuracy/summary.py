"""From runs to numbers: time to GRPO's best accuracy, measured and modelled."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.pool import Result
from benchmarks.time_to_accuracy.rules import IN_TURNS, OVERLAPPED, at, is_plain
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
        `strongest`: the GRPO of the best mean accuracy. `sample_s` and `pass_s`, by rule: medians
        of sampling a batch and of a pass where they take turns. `rows`, one a rule, overlapped:
        what `describe` and `compare` say, the latter against each GRPO (`vs_grpo`, by its name);
        `pass_s`, `batch_s` and `modelled_batch_s`; `modelled_time_ratio`, the ratio of rollouts to
        the strongest GRPO times that of modelled seconds a batch; `rollouts_ratio_for_goal`, which
        would make it `GOAL`.
    """
    runs = {name: select(table, variant=at(name, OVERLAPPED), lr=rates[name]) for name in rules}
    in_turns = {
        name: found
        for name in rules
        if (found := select(table, variant=at(name, IN_TURNS), lr=rates[name]))
    }
    plain = [name for name in rules if is_plain(rules[name])]
    reference = max(plain, key=lambda name: _mean_best(runs[name]))
    sample_s = float(np.median([_median_s(found, "sample") for found in in_turns.values()]))
    pass_s = {name: _median_s(found, "learn") / rules[name].passes for name, found in runs.items()}
    modelled = {
        name: modelled_s(sample_s, rules[name].passes * pass_s[name], OVERLAPPED) for name in runs
    }
    rows = []
    for name, of_rule in runs.items():
        versus = {p: compare(of_rule, runs[p]) for p in plain}
        times_as_long = modelled[name] / modelled[reference]
        batches = of_rule[0]["budget"]["num_batches"]
        rows.append(
            {
                "rule": name,
                "label": rules[name].label,
                "lr": rates[name],
                "passes": rules[name].passes,
                **describe(of_rule, _mean_best(runs[reference])),
                "vs_grpo": versus,
                "pass_s": pass_s[name],
                "batch_s": float(np.median([r["curve"]["wall_s"][-1] for r in of_rule])) / batches,
                "modelled_batch_s": modelled[name],
                "modelled_time_ratio": versus[reference]["rollouts_ratio"]["value"] / times_as_long,
                "rollouts_ratio_for_goal": GOAL * times_as_long,
            }
        )
    return {
        "strongest": reference,
        "goal": GOAL,
        "sample_s": sample_s,
        "pass_s": {
            name: _median_s(found, "learn") / rules[name].passes for name, found in in_turns.items()
        },
        "rows": rows,
    }


def _mean_best(runs: Sequence[Result]) -> float:
    return float(np.mean([best_accuracy(run) for run in runs]))


def _median_s(runs: Sequence[Result], stage: str) -> float:
    return float(np.median([run["stages"][stage] for run in runs]))
