"""Levers and contenders: what is committed follows from the runs that are committed with it."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from benchmarks.update_rules import levers, strongest
from benchmarks.update_rules.__main__ import HERE


def committed(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(Path(HERE / "results" / f"{name}.json").read_text())
    return results


def of_table(results: dict[str, Any], task: str) -> list[Any]:
    seeds = results["settings"]["table_seeds"]
    runs = [r["run"] | {"result": r} for r in results["runs"]]
    return [run["result"] for run in runs if run["task"] == task and run["seed"] in seeds]


def test_every_lever_has_a_control_that_is_run_too() -> None:
    runs_on_few = {control for _, control in levers.CURRICULA.values()}
    assert {control for _, control in levers.LEVERS.values()} <= set(levers.CONTROLS)
    assert runs_on_few <= set(strongest.CONTENDERS)
    assert levers.REFERENCE in levers.CONTROLS and levers.REFERENCE in runs_on_few


@pytest.mark.parametrize("task", [*levers.PROTOCOL.tasks, levers.FEW_SUMS])
def test_committed_levers_are_summed_up_from_their_runs(task: str) -> None:
    results = committed("levers")
    rows = results["tasks"][task]
    contenders = levers.CURRICULA if task == levers.FEW_SUMS else levers.LEVERS
    rates = {row["name"]: row["lr"] for row in rows}
    rates |= {row["control"]: row["control_lr"] for row in rows}
    rates.setdefault(levers.REFERENCE, committed("strongest")["rates"][levers.REFERENCE])
    table = of_table(results, task)
    assert json.loads(json.dumps(levers.summarize(table, task, contenders, rates))) == rows


def test_committed_contenders_are_summed_up_from_their_runs() -> None:
    results = committed("strongest")
    table = [run for task in strongest.PROTOCOL.tasks for run in of_table(results, task)]
    summary = strongest.summarize(table, results["rates"], strongest.PROTOCOL)
    assert json.loads(json.dumps(summary)) == results["tasks"]
