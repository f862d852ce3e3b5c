"""Finding the answer in a reply."""

import time

import pytest
from sfpo_envs.graders.extraction import last_boxed, last_number


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} wait, \boxed{ 2 }", "2"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"} stray { \boxed {7} {", "7"),
        (r"$\boxed{x}$ and \mbox{y}", "x"),
        (r"\boxed{3", None),
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        (r"\boxed 4", None),
        ("42", None),
        ("", None),
    ],
)
def test_the_last_balanced_box_counts(text, content):
    assert last_boxed(text) == content


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
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


@pytest.mark.parametrize(
    "unit", [r"\boxed{", "{", "}", "1", ",", "1,", "-", "\\", r"\boxed ", "1/"]
)
def test_extraction_takes_linear_time(unit):
    text = unit * 10**6
    started = time.perf_counter()
    last_boxed(text)
    last_number(text)
    assert time.perf_counter() - started < 2
