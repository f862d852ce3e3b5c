"""The grader of mathematical answers: what it takes for equal."""

import pickle

import pytest
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders import math_grader

SYMBOLIC = (r"\boxed{x^2 + 2x + 1}", "(x+1)^2")

grade = make_grader("math")


@pytest.fixture(autouse=True)
def nothing_remembered():
    math_grader.COMPARISONS.clear()


@pytest.mark.parametrize(
    ("gold", "answer", "is_right"),
    [
        ("42", "42", True),
        ("42", "043", False),
        ("10,000", "10{,}000", True),
        ("10000", r"10,\!000", True),
        ("0.5", r"\frac{1}{2}", True),
        (r"\frac12", "0.5", True),
        (r"\dfrac{3}{4}", "6/8", True),
        ("$5$", "5", True),
        ("-5", "\u22125", True),
        ("5", "x=5", True),
        ("5", "5.", True),
        ("1 1/2", "11/2", False),
        ("1 1/2", "3/2", True),
        (r"1\frac{1}{2}", "1.5", True),
        (r"1\frac{1}{2}", "11/2", False),
        (r"-2\tfrac13", "-7/3", True),
        ("100, 200", "200, 100", True),
        ("100, 200", "100200", False),
        ("10 000", "10000", True),
        (r"32,\! 349", "32349", True),
        (r"2^\frac{1}{2}", "2^1/2", False),
        ("0.5", "0.51", False),
        (r"\frac{1}{3}", "0.33333333", True),
        ("10^{100}$,$10^{1 / 100}", r"10^{1/100}, 10^{100}", True),
        (r"I_{\max}=\frac{1}{k_{\mathrm{B}}}", r"I_{max}=1/k_B", True),
        (r"\frac{1}{3}", "0.33", False),
        ("4", "4,5", False),
        ("4", r"4 \text{ or } 5", False),
        ("(1,2)", "(2,1)", False),
        (r"\left(1, 2\right)", "(1,2)", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        ("(x+1)^2", "x^2+2x+1", True),
        (r"\frac{\pi}{2}", r"\pi/2", True),
        ("90", r"90^\circ", True),
        ("6", r"6\text{ cm}", True),
        (r"\text{Evelyn}", "Evelyn", True),
        ("B", r"\text{(B)}", True),
        ("4", "exit()", False),
        ("4", "1" * 600, False),
    ],
)
def test_grading_agrees_with_a_human(gold, answer, is_right):
    expected = Verdict.CORRECT if is_right else Verdict.WRONG
    assert grade(rf"\boxed{{{answer}}}", gold).verdict is expected


def test_a_gold_that_cannot_be_compared_with_itself_is_named(caplog):
    assert grade(r"\boxed{1}", r"\frac{1}{0}").verdict is Verdict.UNGRADABLE_GOLD
    assert r"\frac{1}{0}" in caplog.text


def test_an_answer_without_a_value_is_wrong():
    assert grade(r"\boxed{\frac{1}{0}}", r"\sqrt{2}").verdict is Verdict.WRONG


def test_a_whole_reply_is_searched_for_the_answer():
    whole = make_grader("math", extraction="whole")
    assert whole(r"So we get $x = 3$. The answer is $\frac{6}{4}$.", "1.5").verdict == "correct"
    assert whole("the total comes to 1,234.50 dollars", "1234.5").verdict == "correct"
    assert whole(r"\frac{6}{4}", r"\frac{3}{2}").verdict == "correct"
    assert whole(r"\boxed{4} after $\frac{3}{2}$", r"\frac{3}{2}").verdict == "wrong"
    assert whole("  ", "1").verdict == "no_answer"


def test_a_grader_can_be_pickled_with_its_settings():
    twin = pickle.loads(pickle.dumps(make_grader("math", extraction="whole", timeout_s=2.5)))
    assert (twin.extraction, twin.timeout_s) == ("whole", 2.5)
    assert twin("5", "5").verdict is Verdict.CORRECT
