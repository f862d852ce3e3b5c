"""The benchmark's arithmetic on made-up curves, its tasks, and what resuming takes for finished."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from benchmarks.common import environment_record, write_json
from benchmarks.pool import Result
from benchmarks.update_rules import analysis, table
from benchmarks.update_rules.tasks import TASKS, with_mistakes
from benchmarks.update_rules.training import Budget, Run
from benchmarks.update_rules.variants import VARIANTS

BUDGET = Budget(num_batches=4, eval_every=1, eval_samples=8)


def made_up(
    accuracy: list[float], *, variant: str = "single", seed: int = 0, lr: float = 1e-4, **run: Any
) -> dict[str, Any]:
    steps = list(range(len(accuracy)))
    return {
        "run": {"task": "arithmetic", "variant": variant, "lr": lr, "seed": seed, **run},
        "rule": "Single()",
        "trigger": False,
        "budget": vars(BUDGET),
        "fired_at": None,
        "curve": {
            "rollouts": [128 * s for s in steps],
            "accuracy": accuracy,
            "wall_s": [2.0 * s for s in steps],
            "cpu_s": [1.0 * s for s in steps],
            "optimizer_steps": [4 * s for s in steps],
            "entropy": [None] + [1.0] * (len(steps) - 1),
        },
    }


def test_cost_is_interpolated_between_evaluations() -> None:
    run = made_up([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])  # linear: smoothing leaves the middle alone
    assert analysis.cost_to_reach(run, 0.25, "rollouts") == pytest.approx(2.5 * 128)
    assert analysis.cost_to_reach(run, 0.25, "optimizer_steps") == pytest.approx(10)


def test_a_run_that_never_gets_there_costs_its_whole_budget() -> None:
    run = made_up([0.1, 0.1, 0.2, 0.1])
    assert analysis.cost_to_reach(run, 0.9, "rollouts") == 3 * 128
    assert analysis.cost_to_reach(run, 0.05, "rollouts") == 0


def test_ratio_of_a_run_twice_as_fast_is_two() -> None:
    slow = [made_up(list(np.linspace(0.2, 0.4, 41)), seed=s) for s in (1, 2, 3)]
    fast = [
        made_up([*np.linspace(0.2, 0.4, 21), *[0.4] * 20], variant="slow_fast", seed=s)
        for s in (1, 2, 3)
    ]
    summary = analysis.compare(fast, slow)
    assert summary["rollouts_ratio"]["value"] == pytest.approx(2.0, rel=0.03)
    assert summary["num_reached"] == 3
    same = analysis.compare(slow, slow)
    assert same["rollouts_ratio"]["value"] == 1.0
    assert same["accuracy_gain"]["value"] == 0.0 and "p_value" not in same["accuracy_gain"]


def test_a_run_that_is_there_from_the_start_costs_its_first_evaluation() -> None:
    rising, falling = made_up([0.1, 0.2, 0.3, 0.4, 0.5]), made_up([0.9, 0.5, 0.4, 0.3, 0.2])
    assert analysis.compare([falling], [rising])["rollouts_ratio"]["value"] == pytest.approx(4.0)
    assert analysis.compare([falling], [falling])["rollouts_ratio"]["value"] == 1.0


def test_comparison_pairs_seeds() -> None:
    with pytest.raises(ValueError, match="same seeds"):
        analysis.compare([made_up([0.1], seed=1)], [made_up([0.1], seed=2)])


def test_stability() -> None:
    run = made_up([0.2, 0.2, 0.8, 0.8, 0.8, 0.1, 0.1, 0.1])
    assert analysis.worst_drop(run) == pytest.approx(0.7)
    assert analysis.collapsed(run)
    assert not analysis.collapsed(made_up([0.2, 0.3, 0.4, 0.35]))


def test_best_rate_is_that_of_the_mean_over_seeds() -> None:
    runs = [
        made_up([0.2, 0.9], seed=0, lr=1e-3),
        made_up([0.2, 0.1], seed=1, lr=1e-3),
        made_up([0.2, 0.7], seed=0, lr=1e-4),
        made_up([0.2, 0.7], seed=1, lr=1e-4),
    ]
    assert analysis.best_rate(runs, task="arithmetic", variant="single") == 1e-4


def test_a_grid_grows_until_the_best_is_inside() -> None:
    tried: set[float] = set()

    def best_at_4e_5(runs: Sequence[Run], stage: str) -> list[Result]:
        tried.update(run.lr for run in runs)
        accuracy = [0.5 - abs(math.log(run.lr / 4e-5)) / 100 for run in runs]
        return [made_up([a] * 3, **vars(run)) for a, run in zip(accuracy, runs, strict=True)]

    protocol = table.Protocol(
        variants=("single",),
        tasks=("arithmetic",),
        rates=(1.6e-4, 3.2e-4),
        grid_seeds=(0,),
        table_seeds=(1,),
        at_baseline_rate=(),
        conservative=(),
    )
    grid = table.run_grid(protocol, best_at_4e_5)
    assert min(tried) == pytest.approx(2e-5), "the best rate has a neighbour on each side"
    rates = table.chosen_rates(grid, protocol)
    assert rates["single"] == pytest.approx(4e-5)


def test_summary_compares_at_own_and_equal_rates() -> None:
    protocol = table.Protocol(
        variants=("single", "slow_fast"),
        tasks=("arithmetic",),
        rates=(1e-4, 2e-4),
        grid_seeds=(0,),
        table_seeds=(1, 2),
        at_baseline_rate=(),
        conservative=(),
    )
    rising, quick = [0.2, 0.3, 0.4, 0.5, 0.6], [0.2, 0.5, 0.7, 0.8, 0.9]
    runs = [
        made_up(curve, variant=variant, seed=seed, lr=lr)
        for variant, lr, curve in (
            ("single", 2e-4, rising),
            ("slow_fast", 1e-4, quick),
            ("slow_fast", 2e-4, quick),
        )
        for seed in (1, 2)
    ]
    rates = {"single": 2e-4, "slow_fast": 1e-4}
    entry = table.summarize(runs[::2], runs, rates, protocol)["table"]["arithmetic"]
    assert entry["target"] == pytest.approx(0.55)
    sfpo = entry["variants"]["slow_fast"]
    assert sfpo["0.0001"]["vs_best"]["rollouts_ratio"]["value"] > 1.5
    assert "vs_same_rate" in sfpo["0.0002"] and "vs_same_rate" not in sfpo["0.0001"]
    assert sfpo["0.0001"]["num_reached_target"] == 2


def test_json_is_written_whole_and_compact(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_json(path, {"numbers": [1, 2.5, None], "nested": [{"text": "a  b", "none": []}]})
    assert json.loads(path.read_text())["numbers"] == [1, 2.5, None]
    assert '"numbers": [ 1, 2.5, null ]' in path.read_text()
    assert '"a  b"' in path.read_text()
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]
    with pytest.raises(ValueError):
        write_json(path, {"numbers": [math.nan]})
    assert json.loads(path.read_text())["numbers"] == [1, 2.5, None]


def test_record_names_machine_versions_and_commit() -> None:
    record = environment_record()
    assert record["machine"]["cores"] >= 1
    assert {"python", "torch", "ray"} <= set(record["versions"])
    assert record["command"] and record["date"]


def test_mistakes_change_one_symbol_of_the_share_asked_for() -> None:
    right = [("1+1=", "2345")] * 2000
    mistaken = with_mistakes(right, symbols="0123456789", share=0.6, seed=0)
    wrong = [reply for _, reply in mistaken if reply != "2345"]
    assert len(wrong) / len(right) == pytest.approx(0.6, abs=0.05)
    assert all(sum(a != b for a, b in zip(reply, "2345", strict=True)) == 1 for reply in wrong)


def test_tasks_hold_out_problems_and_speak_their_alphabet() -> None:
    pytest.importorskip("reasoning_gym")
    for task in TASKS.values():
        train = {problem.prompt for problem in task.problems("train")}
        test = list(task.problems("test"))
        assert len(test) >= 512
        assert len(train) > 5000 or task.model  # enough to teach a model of its own
        assert TASKS[task.start].alphabet == task.alphabet
        assert not train & {problem.prompt for problem in test}
        for problem in test:
            assert set(problem.prompt + problem.answer) <= set(task.alphabet)
            assert len(problem.answer) < task.max_tokens


def test_variants_that_follow_another_follow_one_with_a_grid() -> None:
    for variant in VARIANTS.values():
        assert variant.like is None or VARIANTS[variant.like].like is None
