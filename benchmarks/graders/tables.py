"""Tables of what was measured of graders, for the docs."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.common import interval

Results = Mapping[str, Any]


def grader_rates(results: Results) -> Iterator[str]:
    """Gradings a second of one core, by wall clock and by CPU time, beside math-verify."""
    yield "| answers | clock | the grader, a second | math-verify itself, a second | ratio |"
    yield "|---" * 5 + "|"
    clocks = {"wall": "wall", "cpu": "CPU time"}
    for kind, row in results["kinds"].items():
        for clock, label in clocks.items():
            measured = row[clock]
            rates = (interval(measured[f"{name}_per_s"], 0) for name in ("ours", "direct"))
            cells = [kind, label, *rates, interval(measured["ratio"], 2)]
            yield "| " + " | ".join(cells) + " |"
    yield ""
    right = min(row["ours_right"] for row in results["kinds"].values())
    yield (
        f"Medians of {row['samples']} blocks with 95% intervals; {results['words']} words a reply, "
        f"{results['environment']['machine']['cpu']}, one core for grader and worker. "
        f"{right:.0%} of the grader's verdicts were right."
    )


def copied_answers(results: Results) -> Iterator[str]:
    """Problems that a formula of theirs solves, and solutions that are taken for copies."""
    yield (
        "| problems | solved by a copy, if it is taken | if it is refused "
        "| right solutions | of them refused |"
    )
    yield "|---" * 5 + "|"
    for name, row in results["sets"].items():
        shares = (row[key] / row["problems"] for key in ("copy_is_right", "copy_is_taken"))
        cells = [f"{name}, {row['problems']:,}", *(f"{share:.1%}" for share in shares)]
        cells += [f"{row[key]:,}" for key in ("solutions", "solutions_refused")]
        yield "| " + " | ".join(cells) + " |"
