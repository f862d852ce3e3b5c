"""Evaluation sets by name: their hub ids and fields, and local files of them."""

import json
import sys

import pytest
from problem_files import SIZES
from repository import DATA
from sfpo_envs import MathReasoningEnv, Verdict, make_grader
from sfpo_envs.problems.dataset import load_math_dataset
from sfpo_envs.problems.eval_sets import EVAL_SETS

# One row of each, with the fields that it has on the hub.
HUB_ROWS = {
    "gsm8k": ({"question": "q", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}, "7"),
    "math500": ({"problem": "q", "solution": "s", "answer": "\\frac{1}{2}"}, "\\frac{1}{2}"),
    "aime24": ({"id": 60, "problem": "q", "solution": "s", "answer": "033"}, "033"),
    "aime25": ({"problem_idx": 1, "problem": "q", "answer": 70, "problem_type": ["Algebra"]}, "70"),
    "amc": ({"id": 0, "problem": "q", "answer": 142.0, "url": "u"}, "142"),
    "minerva": ({"question": "q", "answer": "1.6"}, "1.6"),
    "olympiadbench": (
        {"question": "q", "final_answer": ["$2$"], "answer_type": "Numerical"},
        "$2$",
    ),
}


@pytest.fixture(autouse=True)
def no_data_dir(monkeypatch):
    monkeypatch.delenv("SFPO_DATA_DIR", raising=False)


def test_the_sets_of_the_field_have_names():
    assert set(EVAL_SETS) == set(SIZES) == set(HUB_ROWS)


@pytest.mark.parametrize("name", SIZES)
def test_a_name_is_an_id_of_the_hub_with_its_fields(name, monkeypatch):
    row, answer = HUB_ROWS[name]
    calls = []

    class Hub:
        def load_dataset(self, path, config, *, split, revision):
            calls.append((path, config, split))
            return [row]

    monkeypatch.setitem(sys.modules, "datasets", Hub())
    data = load_math_dataset(name)
    assert (data.problems, data.answers) == (("q",), (answer,))
    (call,) = calls
    assert "/" in call[0] and call[2] in ("train", "test")


@pytest.mark.parametrize("option", ["data_dir", "variable"])
def test_a_folder_of_local_files_takes_the_place_of_the_hub(tmp_path, monkeypatch, option):
    (tmp_path / "gsm8k_test.jsonl").write_text(json.dumps({"problem": "a", "answer": "1"}))
    options = {"data_dir": tmp_path}
    if option == "variable":
        monkeypatch.setenv("SFPO_DATA_DIR", str(tmp_path))
        options = {}
    assert load_math_dataset("gsm8k", **options).problems == ("a",)
    with pytest.raises(ValueError, match=r"data_dir=.*: has none of aime24.jsonl, aime24.jsonl.gz"):
        load_math_dataset("aime24", **options)


def test_fields_of_local_files_can_be_named(tmp_path):
    row = {"question": "a", "answer": "1 + 1 = 2\n#### 2"}
    (tmp_path / "gsm8k.jsonl").write_text(json.dumps(row))
    named = {"problem_field": "question", "answer_pattern": "hashes"}
    assert load_math_dataset("gsm8k", data_dir=tmp_path, **named).answers == ("2",)


def test_a_local_file_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "math500").write_text(json.dumps({"problem": "mine", "answer": "1"}))
    assert load_math_dataset("math500", data_dir="elsewhere").problems == ("mine",)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"dataset='math-500': .*did you mean 'math500'\?"):
        MathReasoningEnv("math-500")


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
@pytest.mark.parametrize("name", SIZES)
def test_real_sets_are_whole_and_their_answers_gradable(name):
    env = MathReasoningEnv(name, data_dir=DATA, prompt_template="plain")
    assert env.num_problems == SIZES[name]
    grade = make_grader("math")
    for _, answer in list(env.problems())[:20]:
        assert grade(f"\\boxed{{{answer}}}", answer).verdict is Verdict.CORRECT
