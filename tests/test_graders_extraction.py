"""Finding the answer in a reply."""

import time

import pytest
from sfpo_envs.graders.extraction import (
    EXTRACTORS,
    after_hashes,
    answer_line,
    last_boxed,
    last_number,
    whole,
)


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
    ("text", "answer"),
    [
        ("So.\nAnswer: 42", "42"),
        ("Answer: 1\nNo.\nanswer :  $x^2$ \nDone.", "$x^2$"),
        ("**Answer:** 7", "7"),
        ("**Answer**: **7**", "7"),
        (r"Answer: $\boxed{3}$.", "3"),
        ("Answer:\n5", None),
        ("The answer is 5", None),
    ],
)
def test_the_last_answer_line_counts(text, answer):
    assert answer_line(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [("2 + 3 = 5\n#### 5", "5"), ("#### 1\n#### 1,234 \nx", "1,234"), ("#### ", None), ("5", None)],
)
def test_what_follows_the_hashes_counts(text, answer):
    assert after_hashes(text) == answer


def test_the_whole_reply_counts():
    assert whole(" a\nb ") == "a\nb"
    assert whole(" \n") is None


@pytest.mark.parametrize(
    "unit",
    [
        r"\boxed{",
        "{",
        "}",
        "1",
        ",",
        "1,",
        "-",
        "\\",
        r"\boxed ",
        "1/",
        "#",
        "answer",
        "answer:",
        "answer *",
        " ",
    ],
)
def test_extraction_takes_linear_time(unit):
    text = unit * 10**6
    started = time.perf_counter()
    for extract in EXTRACTORS.values():
        extract(text)
    assert time.perf_counter() - started < 4
