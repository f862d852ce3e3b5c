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
