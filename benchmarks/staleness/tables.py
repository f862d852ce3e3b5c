"""The table of this benchmark's results, for the docs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.staleness.plot import LABELS


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


def _interval(number: Mapping[str, Any], sign: str = "") -> str:
    """`0.500 (0.400 to 0.600)`."""
    bounds: Sequence[float] = number["interval"]
    value, low, high = (format(x, f"{sign}.3f") for x in (number["value"], *bounds))
    return f"{value} ({low} to {high})"
