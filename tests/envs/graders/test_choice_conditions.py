"""Choices under a condition, the only one left, and those that Chinese and others judge."""

# ruff: noqa: RUF001  # Chinese has its own marks

import time

import pytest
from sfpo_envs import make_grader

grade = make_grader("multiple_choice")


def chosen(reply):
    return grade(reply, "B").extracted


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is B if x > 0, else C.",
        "The answer is B unless x = 0.",
        "The answer is (B), if x > 0.",
        r"\boxed{B \text{ if } x > 0}",
        "The answer is B for x > 0, otherwise C.",
        "Answer: B for x > 0 and C otherwise",
        "I choose B only if x > 0.",
        "B if x>0, else C",
    ],
)
def test_a_letter_under_a_condition_is_no_choice(reply):
    assert chosen(reply) is None


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is B, if I am not mistaken.",
        "The answer is B unless I made a mistake.",
        "The answer is B if we assume x > 0.",
        "The answer is B, otherwise known as Paris.",
        "The answer is B, otherwise a contradiction follows.",
        "The answer is B\n\nIf you have another question, ask.",
        "The answer is B. If x > 0, it is also positive.",
        "If x > 0, the answer is A. It is not, so the answer is B.",
        "The answer must therefore be B.",
    ],
)
def test_what_is_no_condition_leaves_the_choice(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize(
    "reply", ["Only B is true.", "Hence only option (B) satisfies the condition.", "Only (B) fits."]
)
def test_the_only_one_left_is_chosen(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize("reply", ["Only A and B satisfy it.", "Not only B is true.", "If only B!"])
def test_only_does_not_always_choose(reply):
    assert chosen(reply) is None


@pytest.mark.parametrize(
    "reply",
    [
        "B 选项正确", "B选项是正确的", "选项B正确", "B项正确。", "B正确", "B 是正确的",
        "综上，B选项正确。", "A选项错误，B选项正确，C选项错误，D选项错误。", "**B** 选项正确",
        "A、C错误，故选B", "应选B项", "所以B选项是对的", "选B", "故B為正確答案",
        "정답은 B입니다.", "答えはBです。", "正解はBです",
    ],
)  # fmt: skip
def test_what_is_judged_right_in_chinese_is_chosen(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize(
    "reply",
    [
        "B 选项错误", "B选项不正确", "B 选项不一定正确", "如果B选项正确，则x=1", "假设B选项正确",
        "B 选项正确吗？", "A和B正确", "A、B选项正确", "是否B正确", "B项目正确率", "不是B正确",
        "B选项正确与否不明",
    ],
)  # fmt: skip
def test_what_is_asked_doubted_or_one_of_several_in_chinese_is_not(reply):
    assert chosen(reply) is None


@pytest.mark.parametrize(
    "piece",
    ["B选项", "B正确", "only B ", "B if ", "B otherwise ", "B, ", "A、B", "如果", "otherwise, ",
     "the answer is B for "],
)  # fmt: skip
def test_these_are_found_in_linear_time(piece):
    started = time.perf_counter()
    grade((piece * 65_536)[:65_536], "B")
    assert time.perf_counter() - started < 5
