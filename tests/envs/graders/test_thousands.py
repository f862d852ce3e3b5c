"""Spaces between the digits of a number."""

import time

import pytest
from answers import check
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders.extraction import last_number
from sfpo_envs.graders.thousands import joined

SPACES = [" ", "\u00a0", "\u2009", "\u202f", "~", r"\,", r"\;", r"\ "]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("text", ["It is 10{}000.", "It is 1{0}234{0}567.50 dollars", "-25{}000"])
def test_spaces_may_part_thousands(space, text):
    number = "".join(char for char in text.format("") if char in "0123456789.-").rstrip(".")
    reply = text.format(space)
    assert last_number(reply) == number
    assert make_grader("numeric")(reply, number).verdict is Verdict.CORRECT
    assert make_grader("numeric")(reply, "000").verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("in 2020 100 people", "100"),
        ("1 2 3 100", "100"),
        ("5, 100 200", "200"),
        ("100 200 30", "30"),
        ("555 123 4567", "4567"),
        ("0 100", "100"),
        ("3.5 100", "100"),
        ("x1 100", "100"),
        ("2^3 100", "100"),
        ("8 200-page books", "200"),
        ("1/2 100", "100"),
        ("1\n000", "000"),
    ],
)
def test_a_number_beside_another_is_its_own(text, number):
    assert last_number(text) == number


def test_where_nothing_parts_thousands_spaces_do_not():
    grader = make_grader("numeric", thousands="")
    assert grader("10 000", "0").verdict is Verdict.CORRECT
    assert grader("10 000", "10000").verdict is Verdict.WRONG


@pytest.mark.parametrize("space", SPACES)
def test_a_long_row_of_numbers_is_searched_in_no_time(space):
    text = space.join(["111"] * 16_000) + "x"
    start = time.process_time()
    joined(text)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1234", ["EUR 1,234", "Rs. 1,234", r"\text{USD } 1,234", "\u20ac1,234"], ["EUR 1,235"]),
        ("1234.5", ["USD 1,234.50", r"\text{EUR} 1,234.50", "\u00a31,234.50"], ["USD 1,234"]),
        ("1,234", [r"US\$1,234", r"US\$ 1,234", "US$1234"], ["US$ 1", r"US\$ 234"]),
        (r"10000\%", [r"10,000\%", "10,000%", "100"], [r"10\%", r"0\%"]),
        ("1, 234", ["1, 234", "234, 1"], ["1234", "EUR 1,234"]),
    ],
)
def test_thousands_of_an_amount_of_money_and_of_a_percentage_are_one_number(gold, right, wrong):
    check(gold, right, wrong)
