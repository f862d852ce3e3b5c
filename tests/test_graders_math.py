"""The grader of mathematical answers: what it takes for equal."""

import pytest
from sfpo_envs import Verdict, check_gold, make_grader

grade = make_grader("math")


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


@pytest.mark.parametrize("gold", ["", "  ", "$ $", "1" * 5000])
def test_a_gold_answer_that_cannot_be_met_has_a_verdict_of_its_own(gold):
    assert check_gold(gold)
    assert grade(r"\boxed{1}", gold).verdict is Verdict.UNGRADABLE_GOLD


def test_an_unknown_extraction_is_refused():
    with pytest.raises(ValueError, match=r"extraction='last'.*boxed, last_number"):
        make_grader("math", extraction="last")


def test_what_math_verify_cannot_compare_is_an_error_that_is_logged(caplog):
    assert grade(r"\boxed{1}", r"\frac{1}{0}").verdict is Verdict.CRASHED
    assert "ValueError" in caplog.text
