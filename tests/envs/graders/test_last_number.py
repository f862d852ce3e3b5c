"""Finding the last number in a reply."""

import pytest
from sfpo_envs.graders.extraction import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 + 39 = 51", "51"),
        ("It is -7.", "-7"),
        ("x=-7", "-7"),
        ("10-7", "7"),
        ("\u22125 degrees", "-5"),
        ("$1,234.50.", "1234.50"),
        ("1, 2, 3", "3"),
        ("3/4.", "3/4"),
        ("about .5", ".5"),
        ("none", None),
        (r"$1{,}000$", "1000"),
        (r"$12{,}345{,}678.5$", "12345678.5"),
        (r"1\,000", "1000"),
        (r"10,\!000", "10000"),
        ("12\u202f000", "12000"),
        ("1,2345", "2345"),
        ("\u20135", "-5"),
        ("pages 1\u20135", "5"),
        ("\u00be of it", "3/4"),
        ("2\u00bd cups", "5/2"),
        ("2 \u00bd cups", "5/2"),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("6.02e23", "6.02e23"),
        ("6.02E+23 atoms", "6.02e+23"),
        ("-1.6e-19.", "-1.6e-19"),
        (r"$6.02 \times 10^{23}$", "6.02e23"),
        (r"$6.02\;\times\;10^{23}\text{ atoms}$", "6.02e23"),
        (r"5.0\cdot10^{-3}", "5.0e-3"),
        ("1,200 * 10**2", "1200e2"),
        ("6.02 \u00d7 10\u00b2\u00b3", "6.02e23"),
        ("1.6 x 10\u207b\u00b9\u2079", "1.6e-19"),
        (r"$10^{-5}$", "1e-5"),
        ("about -10^6.", "-1e6"),
        (r"10^{x}", "10"),
        ("2^{10}", "10"),
        ("x10^5", "5"),
        ("2e", "2"),
        ("2e3x", "3"),
    ],
)
def test_a_power_of_ten_is_part_of_the_last_number(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"\frac{3}{4}", "3/4"),
        (r"$-\dfrac{3}{4}$", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"-\frac{-3}{4}", "3/4"),
        (r"\frac12", "1/2"),
        (r"1\frac{1}{2}", "3/2"),
        (r"-2 \tfrac{1}{3}", "-7/3"),
        (r"\frac{x}{4}", "4"),
        (r"\frac{1}{0}", "1/0"),
    ],
)
def test_a_fraction_in_latex_is_one_number(text, number):
    assert last_number(text) == number
