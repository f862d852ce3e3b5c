"""`sfpo-rllib compare`: two runs, two sets of runs, or two evaluations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from sfpo_rllib.commands.output import JsonOption, mendable, print_json, stdout_for_json

EXAMPLES = """\b
Examples:
  sfpo-rllib compare runs/grpo runs/sfpo --target 0.5
  sfpo-rllib compare evaluations/base evaluations/trained"""


def compare(
    first: Annotated[
        Path,
        typer.Argument(help="A run, a folder of runs of several seeds, or an evaluation."),
    ],
    second: Annotated[Path, typer.Argument(help="What it is compared with.")],
    target: Annotated[
        float | None, typer.Option(help="Accuracy to reach; else what both reach.")
    ] = None,
    plot: Annotated[str, typer.Option(metavar="PATH", help="The picture.")] = "comparison.png",
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Without a picture.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compares two runs or two evaluations, with intervals and a plot.

    Runs are paired by seed, evaluations by problem. Differences are those of the second less the
    first, with 95% intervals; ratios of costs are the second's over the first's.
    """
    from sfpo_rllib import comparison

    with mendable(), stdout_for_json(as_json):
        result = comparison.compare(first, second, target=target, plot=None if no_plot else plot)
    if as_json:
        print_json(result.as_json())
    elif result.kind == "runs":
        _print_runs(result)
    else:
        _print_evaluations(result)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "A", "B", *columns):
        table.add_column(name)
    return table


def _print(result: Any, table: Table, lines: Sequence[str]) -> None:
    from sfpo_rllib.commands.evaluation_view import plain_console

    console = plain_console()
    console.print(table)
    names = [f"A: {result.names[0]}, B: {result.names[1]}"]
    plot = [] if result.plot is None else [f"plot: {result.plot}"]
    for line in [*names, *lines, *plot]:
        console.print(line, soft_wrap=True, markup=False)


def _print_runs(result: Any) -> None:
    numbers = result.numbers
    table = _table("B - A, or B / A", "p")
    for name in ("best_accuracy", "final_accuracy"):
        row = numbers[name]
        table.add_row(f"{name.replace('_', ' ')}, %", *_percents(row))
    targets = numbers["targets"]
    goal = f"{targets[0]:.1%}" if len({*targets}) == 1 else "the target"
    for cost, row in numbers["to_target"].items():
        if row is None:
            table.add_row(f"{cost} to {goal}", "-", "-", "-", "-")
            continue
        sides = (_cost(row[side]) for side in ("first", "second"))
        shown = ("-", "-") if row["ratio"] is None else _shown(row["ratio"], "{:.2f}")
        table.add_row(f"{cost} to {goal}", *sides, *shown)
    num = len(targets)
    measured = "held-out accuracy" if numbers["measure"] == "held-out" else "accuracy of batches"
    lines = [f"{measured}, {num} pair{'s' * (num > 1)} of runs"]
    if num == 1:
        lines[0] += ": one seed has no interval"
    if len({*targets}) > 1:
        lines.append("the target of a pair is the lower one of their best accuracies")
    reached = numbers["num_reached"]
    if reached != [num, num]:
        lines.append(f"A reached the target in {reached[0]} of {num} runs, B in {reached[1]}")
    if numbers["num_unpaired"]:
        lines.append(f"{numbers['num_unpaired']} runs have no partner of their seed")
    _print(result, table, lines)


def _print_evaluations(result: Any) -> None:
    numbers = result.numbers
    table = _table("B - A", "p", "A better", "B better", "equal")
    rows = dict(numbers["tasks"])
    if len(rows) > 1:
        rows["mean"] = numbers["mean"]
    for name, row in rows.items():
        counts = [str(n) for n in (*row.get("num_better", ()), row.get("num_equal", ""))]
        table.add_row(name, *_percents(row), *counts)
    lines = ["accuracy in %, paired by problem"]
    for name, (a, b) in numbers["differing_settings"].items():
        lines.append(f"settings differ: {name} is {a!r} in A and {b!r} in B")
    if unpaired := sum(row["num_unpaired"] for row in numbers["tasks"].values()):
        lines.append(f"{unpaired} problems are in one of them alone, and do not count")
    _print(result, table, lines)


def _percents(row: dict[str, Any]) -> tuple[str, ...]:
    """The accuracies of both sides, their difference and its p-value."""
    sides = (f"{100 * row[side]:.1f}" for side in ("first", "second"))
    return *sides, *_shown(row["difference"], "{:+.1f}", 100)


def _cost(spent: float) -> str:
    return f"{spent:,.0f}" if spent >= 100 else f"{spent:.3g}"


def _shown(difference: dict[str, Any], form: str, scale: float = 1.0) -> tuple[str, str]:
    """A difference with its interval, and its p-value."""
    value, p = form.format(scale * difference["value"]), difference["p_value"]
    low, high = difference["interval"]
    interval = ""
    if low is not None:
        interval = f" [{form.format(scale * low)}, {form.format(scale * high)}]"
    return value + interval, "-" if p is None else f"{p:.2g}"
