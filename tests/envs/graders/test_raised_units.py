"""Exponents of units are no numbers of a reply, and whole numbers belong to their fractions."""

import time

import pytest
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders.extraction import last_number

numeric = make_grader("numeric")


@pytest.mark.parametrize(
    "text",
    [
        "The area is 18 cm^2",
        "18 m^2.",
        "18 m\u00b2",
        "18 ft**2",
        "18 inches^2",
        "18 m^{ 2 }",
        "18~m^3",
        r"$18\,\text{cm}^2$",
        r"$18$ cm$^3$",
        r"18 $\text{ft}^{2}$",
        r"18\ \mathrm{m}^{-2}",
        r"18\ \mathrm{cm^2}",
        "18 m/s^2",
        "18 m s^{-2}",
        "18 kg m^2 s^-2",
        "18 N/m^2",
        "per m^2: 18 W/m^2",
    ],
)
def test_the_exponent_of_a_unit_is_no_number(text):
    assert last_number(text) == "18"
    assert numeric(text, "18").verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("text", "number"),
    [("x^2", "2"), ("v = 5 x^2", "2"), ("3^2", "2"), ("10^{-3}", "1e-3"), ("3 m^2 and 4", "4")],
)
def test_other_exponents_are_numbers(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number", "value"),
    [
        ("so 2 1/2 cups", "5/2", "2.5"),
        ("-2 1/2", "-5/2", "-2.5"),
        ("10 - 2 1/2", "5/2", "2.5"),
        (r"$2\frac{1}{2}$", "5/2", "2.5"),
        ("the 1 5/3", "5/3", "5/3"),  # no mixed number
        ("1, 3/4", "3/4", "0.75"),
        ("1.5 3/4", "3/4", "0.75"),
        ("on 12 1/2/2024", "2024", "2024"),
    ],
)
def test_a_whole_number_before_a_fraction_is_a_part_of_it(text, number, value):
    assert last_number(text) == number
    assert numeric(text, value).verdict is Verdict.CORRECT


def test_long_replies_of_numbers_and_powers_take_no_long_time():
    started = time.process_time()
    for piece in ("1 ", "9 m^2 ", "m ^ ", "1/2 ", r"\text{m}^2 "):
        text = piece * 20_000
        last_number(text)
        numeric(text, "1")
    assert time.process_time() - started < 20
