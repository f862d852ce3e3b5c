"""Expressions that math-verify by itself reads otherwise, or not at all."""

import pytest
from answers import check


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"2\binom{8}{3}+1", ["113", r"2{8 \choose 3}+1"], ["3", r"2\binom{8}{4}+1"]),
        ("2", [], [r"2\binom{8}{3}"]),
        (r"\binom{8}{3}\binom{5}{2}", ["560", r"\binom{5}{2}\binom{8}{3}"], [r"\binom{8}{3}"]),
        (r"\frac{1}{2}\binom{2n}{n}", [r"\frac{\binom{2n}{n}}{2}"], [r"\frac12"]),
        (r"\binom{2n}{n}", [r"{2n \choose n}"], [r"{n \choose 2n}"]),
    ],
)
def test_binomial_coefficients_are_multiplied(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("2i", ["(1+i)^2"], ["-2i", "2", "(1-i)^2"]),
        (r"\frac{1}{2}-\frac{1}{2}i", [r"\frac{1}{1+i}"], [r"\frac{1}{1-i}"]),
        (r"-8-8 \sqrt{3} i", [r"16 e^{-2\pi i/3}", r"-8(1+\sqrt3 i)"], [r"16 e^{2\pi i/3}"]),
        (r"e^{i\pi/3}", [r"\frac{1+\sqrt3 i}{2}"], [r"\frac{1-\sqrt3 i}{2}", r"\frac12"]),
        ("n+i", ["i+n"], ["n", "n-i"]),  # a variable, perhaps
    ],
)
def test_complex_numbers_have_one_value(gold, right, wrong):
    check(gold, right, wrong)
