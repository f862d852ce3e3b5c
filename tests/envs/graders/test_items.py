"""What the items of a list are."""

import pytest
from answers import check


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"\frac{1 + \sqrt{5}}{2}, \frac{1 - \sqrt{5}}{2}",
            [r"\frac{1 \pm \sqrt{5}}{2}", r"\frac12(1\pm\sqrt5)", r"x = \frac{1 \mp \sqrt{5}}{2}"],
            [r"\frac{1 \pm \sqrt{3}}{2}", r"\frac{-1 \pm \sqrt{5}}{2}", r"\frac{1+\sqrt5}{2}"],
        ),
        (
            r"1, \frac{3+\sqrt{21}}2, \frac{3-\sqrt{21}}2",
            [r"1, \frac{3\pm\sqrt{21}}{2}"],
            [r"\frac{3\pm\sqrt{21}}{2}"],
        ),
        (r"1 \pm \sqrt{19}", [r"\frac{2 \pm \sqrt{76}}{2}"], [r"-1 \pm \sqrt{19}", r"1+\sqrt{19}"]),
        ("-2,1", [r"\frac{-1\pm3}{2}"], [r"\frac{1\pm3}{2}", r"\frac{-1+3}{2}"]),
        (r"\{(1,2),(-1,2)\}", [r"\{(\pm1,2)\}"], [r"\{(1,\pm2)\}"]),
        (r"y=\pm\frac23x", [r"y=\pm\frac{2x}{3}"], [r"y=\frac23x"]),
        ("3,1,-1,-3", [r"\pm2\pm1"], [r"\pm2\mp1"]),
        ("1,-1", [r"\pm2\mp1"], [r"\pm2\pm1"]),
        ("5", [], [r"\pm5", r"5 \pm 1"]),
    ],
)
def test_a_sign_that_is_both_makes_an_item_two(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "(3,4)",
            ["3,4", "x=3, y=4", r"x=3 \text{ and } y=4", "3<x<4"],
            ["4,3", "x=3, x=4", "3 or 4", r"x=3 \text{ or } x=4", r"3 \text{ or } 4", r"\{3,4\}"],
        ),
        ("(-1,1)", ["-1,1"], [r"-1 \text{ or } 1", r"\pm 1", "x=-1, x=1"]),
        ("3,4", ["(3,4)", "(4,3)", r"x=4 \text{ or } x=3", "x=3, x=4"], ["3<x<4", "(3,5)"]),
        ("(1,2),(3,4)", [r"(3,4) \text{ or } (1,2)"], ["1,2,3,4", "(2,1),(4,3)"]),
    ],
)
def test_alternatives_are_a_list_and_no_tuple(gold, right, wrong):
    """Parentheses may be missing, as they are around many golds, if the order is the same."""
    check(gold, right, wrong)
