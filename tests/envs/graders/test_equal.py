"""Two answers that were found, compared with each other, as a vote does it."""

from typing import Any

import pytest
from sfpo_envs import MathReasoningEnv, make_grader


@pytest.mark.parametrize(
    ("grader", "settings", "one", "other", "same"),
    [
        ("math", {}, "0.5", r"\frac{1}{2}", True),
        ("math", {}, r"\sqrt{8}", r"2\sqrt{2}", True),
        ("math", {}, "1,2", "2,1", True),
        ("math", {}, "3", "4", False),
        ("math", {}, "8", "He has 8 apples left.", True),
        ("math", {}, "(1,2)", "1<x<2", True),
        ("math", {}, "no number", "no  number", True),
        ("math", {"extraction": "whole"}, "so it is 3", "the answer is 3.0", True),
        ("math", {}, "9^{9^{9^9}}", "9^{9^{9^8}}", False),  # not computed
        ("math", {}, "3", "3" * 600, False),
        ("numeric", {}, "0.50", "1/2", True),
        ("numeric", {}, "0.50", "half", False),
        ("numeric", {}, "1/0", "1/0", False),
        ("exact", {}, "a  b", "a b", True),
        ("exact", {"ignore_case": True}, "A", "a", True),
    ],
)
def test_a_grader_says_whether_two_answers_are_the_same(
    grader: str, settings: dict[str, Any], one: str, other: str, same: bool
) -> None:
    equal = make_grader(grader, **settings).equal
    assert equal(one, other) is same and equal(other, one) is same


def test_an_answer_that_says_nothing_is_no_error_and_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    equal = make_grader("math").equal
    assert not equal(r"\frac{", "}{") and not equal("?", "!")
    assert not caplog.records


@pytest.mark.parametrize("grader", ["multiple_choice", lambda reply, gold: reply == gold])
def test_of_other_graders_the_text_decides(grader: Any, tmp_path: Any) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"problem": "Which?", "answer": "A"}\n')
    env = MathReasoningEnv(str(path), grader=grader)
    assert env.equivalent("B", " B ") and not env.equivalent("B", "C")
