"""The table of this benchmark's results, for the docs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.staleness.__main__ import variant_name
from benchmarks.staleness.plot import LABELS
from benchmarks.update_rules.analysis import best_accuracy, select


def staleness(results: Mapping[str, Any]) -> Iterator[str]:
    """A row a rule and age, each at its own rate."""
    settings, rows = results["settings"], results["rows"]
    names = ("rule", "S", "learning rate", "best accuracy", "against S = 0", "at the end", "fall")
    yield "| " + " | ".join(names) + " |"
    yield "|---" * len(names) + "|"
    for row in rows:
        lost = row["vs_own_fresh"]
        cells = [
            LABELS[row["rule"]],
            str(row["max_staleness"]),
            f"{row['lr']:g}",
            _interval(row["best_accuracy"]),
            _interval(lost, sign="+") if row["max_staleness"] else "",
            f"{row['final_accuracy']['value']:.3f}",
            f"{row['worst_drop']:.3f}" + " (collapsed)" * bool(row["num_collapsed"]),
        ]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield (
        "The fall is the deepest below the best so far, of any seed. "
        f"Two-digit sums, {settings['num_batches']} batches, {len(settings['table_seeds'])} seeds "
        "other than those that chose the rates; means with 95% intervals over seeds, differences "
        "by seed (`python -m benchmarks.staleness`)."
    )


def at_one_rate(results: Mapping[str, Any]) -> Iterator[str]:
    """Best accuracies at the grid's highest rate, a column an age."""
    settings = results["settings"]
    lr, ages, seeds = max(settings["rates"]), settings["ages"], settings["grid_seeds"]
    yield f"| all at {lr:g} | " + " | ".join(f"S = {age}" for age in ages) + " |"
    yield "|---" * (1 + len(ages)) + "|"
    for rule in settings["rules"]:
        runs = [select(results["runs"], variant=variant_name(rule, age), lr=lr) for age in ages]
        of_grid = [[r for r in found if r["run"]["seed"] in seeds] for found in runs]
        cells = [f"{np.mean([best_accuracy(r) for r in found]):.3f}" for found in of_grid]
        yield f"| {LABELS[rule]} | " + " | ".join(cells) + " |"
    yield ""
    yield f"Best accuracies of the runs that chose the rates ({len(seeds)} seed)."


def _interval(number: Mapping[str, Any], sign: str = "") -> str:
    """`0.500 (0.400 to 0.600)`."""
    bounds: Sequence[float] = number["interval"]
    value, low, high = (format(x, f"{sign}.3f") for x in (number["value"], *bounds))
    return f"{value} ({low} to {high})"
