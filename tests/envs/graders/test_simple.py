"""The graders of text, numbers and choices: what each takes for right."""

import pickle

import pytest
from sfpo_envs import Verdict, make_grader


def verdicts(is_right):
    return Verdict.CORRECT if is_right else Verdict.WRONG


@pytest.mark.parametrize(
    ("settings", "gold", "reply", "verdict"),
    [
        ({}, "New York", " New \n York ", "correct"),
        ({}, "Paris", "paris", "wrong"),
        ({"ignore_case": True}, "Paris", "PARIS", "correct"),
        ({"extraction": "boxed"}, "Paris", r"It is \boxed{Paris}.", "correct"),
        ({"extraction": "boxed"}, "Paris", "Paris", "no_answer"),
        ({}, "0.5", "1/2", "wrong"),
        ({}, " ", "x", "ungradable_gold"),
    ],
)
def test_exact_compares_text(settings, gold, reply, verdict):
    assert make_grader("exact", **settings)(reply, gold).verdict == verdict


@pytest.mark.parametrize(
    ("gold", "reply", "number", "is_right"),
    [
        ("18", "9 * 2 = 18.", "18", True),
        ("18", "18 or 19", "19", False),
        ("1,234", "1234", "1234", True),
        ("1234.5", "$1,234.50", "1,234.50", True),
        ("0.75", r"\frac{3}{4}", r"\frac{3}{4}", True),
        ("0.5", r"\frac12", r"\frac12", True),
        ("-0.75", r"-\tfrac 3 4", r"-\tfrac 3 4", True),
        ("1.5", r"1\frac12", r"1\frac12", True),
        ("2.5", "2\u00bd cups", r"2\frac{1}{2}", True),
        ("2/3", "\u2154", r"\frac{2}{3}", True),
        ("2", "2\u00bd cups", r"2\frac{1}{2}", False),
        ("3/4", ".75", ".75", True),
        ("-3", "x = -3", "-3", True),
        ("-3", "x = \u22123", "-3", True),
        ("7", "10-7", "7", True),
        ("1500", r"1.5 \times 10^{3}", r"1.5 \times 10^{3}", True),
        ("1500", "1.5e3", "1.5e3", True),
        ("0.5", "50%", "50%", True),
        ("0.5", r"50\%", r"50\%", True),
        ("0.3333333333", "1/3", "1/3", True),
        ("0.3333", "1/3", "1/3", False),
        ("5", "1/0", "1/0", False),
        ("0", "1e-9", "1e-9", False),
    ],
)
def test_numeric_compares_the_last_number(gold, reply, number, is_right):
    grade = make_grader("numeric")(reply, gold)
    assert (grade.verdict, grade.extracted) == (verdicts(is_right), number)


@pytest.mark.parametrize(
    ("settings", "gold", "reply", "is_right"),
    [
        ({"relative_tolerance": 0.01}, "100", "100.9", True),
        ({"relative_tolerance": 0.01}, "100", "101.1", False),
        ({"absolute_tolerance": 0.5}, "0", "-0.5", True),
        ({"absolute_tolerance": 0.5}, "0", "0.51", False),
        ({"relative_tolerance": 0, "absolute_tolerance": 0}, "0.1", "0.10", True),
        ({"percent": "ignore"}, "50", "50%", True),
        ({"percent": "ignore"}, "0.5", "50%", False),
        ({"percent": "refuse"}, "50", "50%", False),
        ({"percent": "refuse"}, "0.5", "50%", False),
        ({"thousands": ""}, "1234", "1,234", False),
        ({"thousands": ".", "decimal": ","}, "1234,5", "1.234,5", True),
        ({"thousands": " "}, "1234", "1 234", True),
        ({"extraction": "boxed"}, "5", r"\boxed{x = 5} not 6", True),
        ({"extraction": "boxed"}, "5", r"\boxed{3 or 5}", False),
        ({"extraction": "hashes"}, "1234", "so\n#### 1,234", True),
    ],
)
def test_numeric_follows_its_settings(settings, gold, reply, is_right):
    assert make_grader("numeric", **settings)(reply, gold).verdict is verdicts(is_right)


@pytest.mark.parametrize("gold", ["", "about", "3 or 4", "1/0", "50%"])
def test_a_gold_that_is_not_one_number_cannot_be_graded_as_one(gold):
    assert make_grader("numeric", percent="refuse")("5", gold).verdict == "ungradable_gold"


def test_a_reply_without_a_number_has_no_answer():
    assert make_grader("numeric")("no idea", "5").verdict is Verdict.NO_ANSWER


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        (r"\text{(B)}", "B"),
        ("**B**", "B"),
        ("The answer is B", "B"),
        ("The answer is (b).", "B"),
        ("the answer is b", "B"),
        ("**Answer:** (B) Paris", "B"),
        ("Answer: C? No. Answer: B", "B"),
        ("The answer is option B, as A is absurd.", "B"),
        (r"the answer is $\boxed{B}$", "B"),
        ("B. Paris, as (A) is absurd", "B"),
        ("(A) is absurd, so (B)", "B"),
        ("The answer is a train", None),
        ("A train leaves", None),
        ("Is it Because", None),
        ("F", None),
        ("", None),
    ],
)
def test_the_letter_that_is_chosen(reply, letter):
    grade = make_grader("multiple_choice")(reply, "(B)")
    assert grade.extracted == letter
    assert grade.verdict is (Verdict.CORRECT if letter == "B" else Verdict.NO_ANSWER)


def test_letters_can_be_chosen():
    grade = make_grader("multiple_choice", letters="ABCDEFGHIJ", extraction="boxed")
    assert grade(r"\boxed{J}", "J").verdict is Verdict.CORRECT
    assert grade(r"\boxed{I}", "J").verdict is Verdict.WRONG
    assert make_grader("multiple_choice")("E", "J").verdict is Verdict.UNGRADABLE_GOLD


@pytest.mark.parametrize("name", ["exact", "numeric", "multiple_choice"])
def test_a_grader_can_be_pickled(name):
    grade = pickle.loads(pickle.dumps(make_grader(name, extraction="boxed")))
    gold = "B" if name == "multiple_choice" else "2"
    assert grade(rf"\boxed{{{gold}}}", gold).verdict is Verdict.CORRECT
