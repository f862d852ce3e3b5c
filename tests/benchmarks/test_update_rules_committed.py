"""What is committed of baselines, contenders and levers follows from the runs beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from benchmarks.update_rules import baselines, levers, strongest
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
    table = of_table(results, task)
    assert (
        json.loads(json.dumps(levers.summarize(table, task, contenders, results["rates"]))) == rows
    )


@pytest.mark.parametrize("task", strongest.PROTOCOL.tasks)
def test_the_reference_is_the_most_accurate_of_all_that_grpo_was_tuned_in(task: str) -> None:
    results = committed("baselines")
    runs = [run for run in results["runs"] if run["run"]["task"] == task]
    summary = baselines.summarize(runs, baselines.SETTINGS)
    assert json.loads(json.dumps(summary)) == results["tasks"][task]
    assert summary["strongest"]["accuracy"]["name"] == strongest.REFERENCE


def test_levers_have_the_rates_of_contenders() -> None:
    rates, own = committed("levers")["rates"], committed("strongest")["rates"]
    for task, of_task in own.items():
        assert of_task.items() <= rates[task].items()


def test_committed_contenders_are_summed_up_from_their_runs() -> None:
    results = committed("strongest")
    table = [run for task in strongest.PROTOCOL.tasks for run in of_table(results, task)]
    grid = [run for run in results["runs"] if run not in table]
    summary = strongest.summarize(grid, table, results["rates"], strongest.PROTOCOL)
    assert json.loads(json.dumps(summary)) == results["tasks"]
    pair = {task: strongest.paper_pair(table, task) for task in strongest.PROTOCOL.tasks}
    assert json.loads(json.dumps(pair)) == results["paper_pair"]
