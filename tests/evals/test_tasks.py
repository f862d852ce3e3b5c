import json
from pathlib import Path

import pytest
from problem_files import SIZES
from repository import DATA

from sfpo_rllib.evals import TASKS, Task, find_tasks, math_task


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "squares.jsonl"
    rows = [{"problem": f"{n} squared", "answer": n * n} for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs {DATA}")
def test_every_task_of_the_table_has_its_problems() -> None:
    tasks = find_tasks(TASKS, data=[str(DATA)])
    assert {task.name: task.count() for task in tasks} == SIZES


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gsm8", "did you mean 'gsm8k'?"),
        ("math-500", "did you mean 'math500'?"),
        ("AIME24", "must be one of gsm8k, math500, aime24"),
        ("Arithmetic", "a gymnasium id (my_module:my/Task-v0)"),
        ("missing.jsonl", "there is no such file"),
    ],
)
def test_an_unknown_task_is_named_with_those_near_it(name: str, hint: str) -> None:
    with pytest.raises(ValueError) as raised:
        find_tasks([name])
    assert f"tasks={name}: " in str(raised.value) and hint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_all_that_is_wrong_is_listed(problems: Path) -> None:
    with pytest.raises(ValueError, match=r"tasks=gsm8: .*; tasks=amcc: .*; data=.*no file"):
        find_tasks(["gsm8", "amcc", "gsm8k"], data=["gsm8k=/nowhere.jsonl"])
    with pytest.raises(ValueError, match=r"data=math500=.*: must name one of the tasks, gsm8k"):
        find_tasks(["gsm8k"], data=[f"math500={problems}"])
    with pytest.raises(ValueError, match=r"must be at least one"):
        find_tasks([])


def test_a_file_of_problems_is_a_task(problems: Path) -> None:
    (task,) = find_tasks([str(problems)], options={"prompt_template": "plain"})
    assert (task.name, task.count()) == ("squares", 5)
    assert task.env_config["prompt_template"] == "plain"


def test_a_task_takes_its_problems_from_the_file_it_is_given(problems: Path) -> None:
    (task,) = find_tasks(["gsm8k"], data=[f"gsm8k={problems}"])
    assert task.count() == 5


def test_a_task_of_ones_own_is_a_line_in_the_table(
    problems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "squares", math_task("squares", str(problems), grader="exact"))
    (task,) = find_tasks(["squares"])
    assert task.count() == 5 and task.env_config["grader"] == "exact"


def test_an_environment_says_how_many_problems_it_has() -> None:
    (sums,) = find_tasks(["sfpo_envs:sfpo/Arithmetic-v0"], options={"split": "test"})
    assert sums.count() == 512
    assert find_tasks(["sfpo_envs:sfpo/Countdown-v0"])[0].count() is None  # no end of them
    assert Task("own", sums.env, sums.env_config, num_problems=7).count() == 7


def test_problems_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    (task,) = find_tasks(["gsm8k"], data=[str(tmp_path)])
    with pytest.raises(ValueError) as raised:
        task.count()
    assert "tasks=gsm8k: cannot be made: data_dir=" in str(raised.value)
    assert "--data gsm8k=FILE" in str(raised.value) and "\n" not in str(raised.value)


def test_other_faults_of_an_environment_do_not_ask_for_problems(problems: Path) -> None:
    (task,) = find_tasks(["gsm8k"], data=[f"gsm8k={problems}"], options={"prompt_template": "nope"})
    with pytest.raises(ValueError, match="prompt_template='nope': must be one of") as raised:
        task.count()
    assert "--data" not in str(raised.value)


def test_a_module_has_tasks_of_its_own(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"""
from sfpo_rllib.evals import TASKS, math_task

cubes = math_task("cubes", {str(problems)!r})
TASKS["added"] = math_task("added", {str(problems)!r})
number = 3
"""
    (tmp_path / "tasks_of_mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TASKS, "added", TASKS["gsm8k"])  # and away again when this is over
    found = find_tasks(["tasks_of_mine:cubes", "tasks_of_mine:added"])
    assert [task.name for task in found] == ["cubes", "added"]
    for name, why in (("number", "must be a Task of tasks_of_mine"), ("x", "must be a Task")):
        with pytest.raises(ValueError, match=why):
            find_tasks([f"tasks_of_mine:{name}"])
    with pytest.raises(ValueError, match="cannot be imported: ModuleNotFoundError"):
        find_tasks(["nothing_like_it:x"])
