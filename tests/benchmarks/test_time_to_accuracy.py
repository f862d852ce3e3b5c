"""The long-reply task is what it says, and modelled time follows from what was measured."""

import re
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.pretrained import problems
from benchmarks.time_to_accuracy.column_addition import ColumnAdditionEnv, written_out
from benchmarks.time_to_accuracy.rules import FULL, RULES, SMOKE, at, is_plain
from benchmarks.time_to_accuracy.summary import summarize
from benchmarks.update_rules.analysis import modelled_s, strongest
from benchmarks.update_rules.tasks import TASKS
from benchmarks.update_rules.training import Budget, Run

BUDGET = Budget(num_batches=4, eval_every=1, eval_samples=8)


@pytest.mark.parametrize("num_columns", [2, 6, 8])
def test_the_working_adds_up_and_has_the_length_that_it_says(num_columns: int) -> None:
    for first, second in [(0, 0), (10**num_columns - 1,) * 2, (482739 % 10**num_columns, 57)]:
        problem = written_out(first, second, num_columns)
        working, answer = problem.answer.split(">")
        digits = re.sub("[a-h]", "", answer)
        assert int(digits[::-1]) == first + second
        for a, b, carry, total in re.findall(r"(\d)\+(\d)\+(\d)=(\d\d);", working):
            assert int(a) + int(b) + int(carry) == int(total)
        assert len(problem.answer) + 1 == 12 * num_columns + 3
        assert re.sub("[a-h]", "", problem.prompt)[:-1] == "".join(
            a + b for a, b, *_ in re.findall(r"(\d)\+(\d)\+(\d)=(\d\d);", working)
        )


def test_replies_of_the_task_are_long_and_fit() -> None:
    for plan in (FULL, SMOKE):
        task = TASKS[plan.task]
        problem = next(task.problems("train"))
        assert set(problem.prompt + problem.answer) <= set(task.alphabet)
        assert len(problem.answer) + 1 <= task.max_tokens
        assert len(problem.prompt) + task.max_tokens <= task.max_length
    assert 64 <= len(next(TASKS[FULL.task].problems("train")).answer) + 1 <= 128


def test_held_out_sums_are_not_trained_on() -> None:
    train, test = (
        {problem.prompt for problem in ColumnAdditionEnv(split, 2).problems()}
        for split in ("train", "test")
    )
    assert train and test and not train & test


def test_word_problems_have_their_answers_and_are_held_out() -> None:
    everything = dict(problems.problems())
    assert len(everything) == len(problems.problems()) > 3 * problems.NUM_TEST
    for text, answer in everything.items():
        a, b = map(int, re.findall(r"\d+", text))
        assert answer in (a + b, a - b) and answer > 0


def result(name: str, staleness: int, per_batch: float, stages: dict[str, float]) -> dict[str, Any]:
    """A run whose accuracy rises evenly with its batches, twice as fast with SFPO."""
    speed = 0.1 if is_plain(RULES[name]) else 0.2
    batches = range(BUDGET.num_batches + 1)
    return {
        "run": asdict(Run("t", at(name, staleness), 1e-3, 10)),
        "budget": asdict(BUDGET),
        "stages": stages,
        "fired_at": None,
        "curve": {
            "rollouts": [128 * b for b in batches],
            "accuracy": [min(speed * b, 1.0) for b in batches],
            "wall_s": [per_batch * b for b in batches],
            "cpu_s": [per_batch * b for b in batches],
            "optimizer_steps": list(batches),
        },
    }


def test_modelled_time_is_the_ratio_of_rollouts_times_that_of_seconds_a_batch() -> None:
    rules = {name: RULES[name] for name in ("grpo-1x1", "sfpo-3x4")}
    table = [
        result("grpo-1x1", 0, 4.0, {"sample": 3.0, "learn": 1.0}),
        result("grpo-1x1", 1, 3.0, {"sample": 2.0, "learn": 1.0}),
        result("sfpo-3x4", 0, 7.0, {"sample": 3.0, "learn": 4.0}),
        result("sfpo-3x4", 1, 4.0, {"sample": 0.0, "learn": 4.0}),
    ]
    rates = dict.fromkeys(rules, 1e-3)
    summary = summarize(rules, rates, table)
    assert summary["strongest"] == "grpo-1x1"
    assert summary["sample_s"] == 3.0
    assert summary["pass_s"] == {"grpo-1x1": 1.0, "sfpo-3x4": 1.0}
    rows = {row["rule"]: row for row in summary["rows"]}
    modelled = {name: row["modelled_batch_s"] for name, row in rows.items()}
    assert modelled == {"grpo-1x1": 3.0, "sfpo-3x4": 4.0}
    for name, row in rows.items():
        base = rows["grpo-1x1"]
        # Measured seconds are the modelled ones here, and so are the ratios.
        assert row["batch_s"] == pytest.approx(row["modelled_batch_s"])
        assert row["modelled_time_ratio"] == pytest.approx(
            row["vs_grpo"]["grpo-1x1"]["wall_s_ratio"]["value"]
        )
        needed = row["rollouts_ratio_for_goal"] * base["modelled_batch_s"]
        assert needed == pytest.approx(4.19 * row["modelled_batch_s"])
        assert row["vs_grpo"]["grpo-1x1"]["rollouts_ratio"]["value"] == pytest.approx(
            2.0 if name == "sfpo-3x4" else 1.0, rel=0.2
        )


@pytest.mark.parametrize(
    ("passes", "staleness", "expected"), [(1, 0, 4.0), (4, 0, 7.0), (1, 1, 3.0), (4, 1, 4.0)]
)
def test_overlap_hides_the_shorter_of_sampling_and_learning(
    passes: int, staleness: int, expected: float
) -> None:
    assert modelled_s(3.0, passes * 1.0, staleness) == expected


def test_the_strongest_is_the_one_with_the_highest_accuracy_of_those_asked_for() -> None:
    names = ("grpo-1x1", "grpo-4x16", "sfpo-3x4")
    grid = [result(name, 0, 1.0, {}) for name in names]
    for run in grid:
        run["run"]["variant"] = run["run"]["variant"].removesuffix("-s0")
    grid[1]["curve"]["accuracy"][-1] += 0.1
    assert strongest(grid, dict.fromkeys(names[:2], 1e-3)) == "grpo-4x16"
