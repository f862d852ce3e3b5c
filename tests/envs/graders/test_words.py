"""Answers that are words: numbers, choices, lists, names."""

import time

import pytest
from answers import check
from sfpo_envs.graders.words import respell_words


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "12",
            ["twelve", r"\text{Twelve}", r"\textbf{twelve}.", r"\text{twelve dollars}"],
            ["eleven", "twelfth", "twelve and a half", r"\text{not twelve}", "twelve hundred",
             r"\text{twelve or more}", r"\text{at least twelve}", r"\text{twelve to one}"],
        ),
        ("21", ["twenty-one", r"\text{twenty one hours}"], ["twenty", "one twenty", "twenty, one"]),
        (r"\mbox{four}", ["4", r"\text{Four}"], ["5", "five", "fourth", r"\frac{1}{4}"]),
        ("305", ["three hundred five", "three hundred and five"], ["three hundred", "three, five"]),
        ("1200000", ["one million two hundred thousand"], ["one million two hundred"]),
        ("-5", ["negative five", r"\text{minus five}"], ["five"]),
        ("0", ["zero"], ["one"]),
        (r"\frac12", ["one half", "one-half", r"\text{a half}"], ["a third", "half of 3"]),
        (r"\frac34", ["three quarters", "three-fourths"], ["three fifths", "three", "one quarter"]),
        ("2.5", [r"\text{two and a half hours}"], ["two", "three and a half"]),
        ("3,4", ["four and three", r"\text{three, four}"], ["three", "thirty-four"]),
        (r"\text{two lines}", ["Two lines"], ["2", "one line", r"\text{two planes}"]),
    ],
)  # fmt: skip
def test_a_number_in_words_is_that_number(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"\text{Softball, Kickball, Picnic}",
            [r"\text{Picnic}, \text{Softball}, \text{Kickball}", "picnic, softball and kickball",
             r"\text{Softball, Kickball, and Picnic}"],
            [r"\text{Softball, Kickball}", r"\text{Softball or Kickball or Picnic}"],
        ),
        (
            r"\text{A,B,E}",
            ["B, A, E", r"\text{A, B, and E}", "(A), (B), (E)", r"A, B, \text{ and } E"],
            ["A,B", "A,B,D", r"\text{A, B or E}"],
        ),
        (
            r"\text{(C)}",
            ["C)", "Option C", r"\text{choice (C)}"],
            ["(B)", "A, C", "Option D", r"\text{Option C or D}", r"\text{not C}"],
        ),
        (r"\text{black and white}", ["black and white"], ["black", "white"]),
        ("RC, xy", ["yx, CR"], ["RC"]),  # of products the order does not count
    ],
)  # fmt: skip
def test_words_and_choices_make_lists(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"\text{ellipse}",
            ["an ellipse", r"\text{The ellipse}"],
            ["not an ellipse", "two ellipses"],
        ),
        (r"\text{Tuesday}", [r"\text{on Tuesday}", "a Tuesday"], ["Thursday", "Tuesday or Monday"]),
        (r"\text{October 30}", [r"\text{October 30th}"], [r"\text{October 31st}"]),
    ],
)
def test_articles_and_ordinals_do_not_count(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize("piece", ["a ", "A, ", "one hundred ", "and ", "(", "&", "one thousand "])
def test_many_words_are_read_at_once(piece):
    started = time.perf_counter()
    for length in (256, 4096):
        respell_words((piece * length)[:length])
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"\emptyset",
            [r"\text{no solution}", "No solutions.", r"\text{There are no real solutions}",
             r"\text{the empty set}", r"\{\}"],
            ["0", r"\{0\}", r"\text{one solution}", r"\text{no}", r"\text{no solution except } 2"],
        ),
        (r"\text{no real solution}", [r"\varnothing", "no solutions"], ["0", "none of these"]),
        (r"\text{does not exist}", ["DNE", r"\text{The limit does not exist.}"], ["0", "exists"]),
        ("0", ["0"], [r"\text{no solution}", r"\emptyset"]),
    ],
)  # fmt: skip
def test_that_there_is_no_solution_is_the_empty_set(gold, right, wrong):
    check(gold, right, wrong)
