"""Answers with a parameter that runs through the integers."""

import pytest
from answers import check

EVERY_SAYING = [
    r"k\pi, k \in \mathbb{Z}",
    r"k\pi \quad (k \in \mathbb Z)",
    r"k\pi,\ k\in Z",
    r"k\pi, \forall k \in \mathbb{Z}",
    r"k\pi \text{ for integer } k",
    r"k\pi \text{ for all integers } k",
    r"k\pi, \text{ where } k \text{ is an integer}",
    r"k\pi \text{ where } k \text{ is any integer}",
    r"\{k\pi : k \in \mathbb{Z}\}",
    r"\{ k\pi \mid k \in \mathbb{Z} \}",
    r"k\pi, k = 0, \pm 1, \pm 2, \ldots",
    "k\u03c0, k \u2208 \u2124",
    r"k\pi",
    r"n\pi, n \in \mathbb{Z}",
    r"x = m\pi \text{ for any integer } m",
    r"n\pi",
]
OTHERS = [
    r"2k\pi, k \in \mathbb{Z}",
    r"2n\pi",
    r"\pi",
    r"k\pi, k \in \mathbb{N}",
    r"k\pi, k \in \mathbb{Z}^+",
    r"k\pi \text{ for even integers } k",
    r"k \in \mathbb{Z}",
    r"\mathbb{Z}",
    r"a\pi",
]


@pytest.mark.parametrize("gold", [r"k\pi, k \in \mathbb{Z}", r"x = k\pi \text{ for integer } k"])
def test_what_is_said_of_a_parameter_and_its_name_do_not_matter(gold):
    check(gold, EVERY_SAYING, OTHERS)


def test_a_gold_answer_need_not_say_it():
    check(r"\frac{\pi}{4} + k\pi", [r"x = \frac{\pi}{4} + n\pi, n \in \mathbb{Z}"], [r"k\pi"])


def test_several_families_have_one_parameter():
    check(
        r"\frac{\pi}{6} + 2k\pi, \frac{5\pi}{6} + 2k\pi, k \in \mathbb{Z}",
        [r"\frac{5\pi}{6} + 2n\pi, \frac{\pi}{6} + 2n\pi \text{ where } n \text{ is an integer}"],
        [r"\frac{\pi}{6} + 2n\pi, n \in \mathbb{Z}"],
    )


def test_other_letters_stay_what_they_are():
    check(r"a + 3k, k \in \mathbb{Z}", [r"a + 3n, n \in \mathbb{Z}"], [r"k + 3a, a \in \mathbb{Z}"])


def test_what_is_said_of_the_unknown_itself_counts():
    check(r"x < 5", [r"5 > x"], [r"x < 5, x \in \mathbb{Z}", r"x < 5, x \in \mathbb{N}"])
    check(r"k\pi, k \in \mathbb{N}", [r"n\pi, n \in \mathbb{N}"], [r"k\pi, k \in \mathbb{Z}"])
