"""Inequalities in one unknown, and the intervals that solve them."""

import time

import pytest
from answers import check
from sfpo_envs.graders.inequalities import alike


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"(-\infty,2)",
            ["x<2", "2 > x", r"\{x \mid x < 2\}", r"\left\{x\in\mathbb{R} : x \lt 2\right\}"],
            ["x>2", r"x\le 2", "2<x", "x<3", "x=2"],
        ),
        (r"[0,\infty)", [r"x \ge 0", r"y\geqslant 0", "x>=0", "0≤x"], ["x>0", r"x\le 0"]),
        (
            "[-2,7]",
            [r"-2 \leq x \leq 7", r"7 \ge x \ge -2", r"x \ge -2 \text{ and } x \le 7",
             r"x \geq -2, x \leq 7"],
            ["-2<x<7", r"-2 \le x < 7", r"x \ge -2", r"7 \le x \le -2"],
        ),
        (
            r"(-\infty, -1) \cup (3,\infty)",
            [r"x < -1 \text{ or } x > 3", r"x>3 \lor x<-1", "x<-1, x>3",
             r"\{x \mid x<-1 \text{ or } x>3\}"],
            ["-1<x<3", "x<-1", r"x \le -1 \text{ or } x > 3", r"x>-1 \text{ or } x<3"],
        ),
        (
            r"(-\infty,-2)\cup(-2,2)\cup(2,\infty)",
            [r"x \ne \pm 2", r"x \neq -2, 2", r"x \ne -2 \text{ and } x \ne 2",
             r"\mathbb{R} \backslash \{-2,2\}", r"\mathbb{R} - \{2,-2\}"],
            [r"x \ne 2", r"x \ne 2, 3"],
        ),
        (r"(0,9)\cup(9,36)", [r"0<x<36, x \neq 9"], ["0<x<36"]),
        (r"(-\infty,\infty)", [r"\text{all real numbers}"], ["x>0"]),
        (
            r"-80 \le g(x) \le 82",
            ["[-80,82]", r"g(x) \in [-80,82]"],
            [r"-80 \le f(x) \le 82", "[-80,82)", r"g(x) \in (-80,82)"],
        ),
        (
            r"(-\infty, 0) \cup\{1\}",
            [r"k<0 \text{ or } k=1", "x=1 or x<0", "x<0, x=1"],
            ["x<0", "x<0 or x=2", "x<0 and x=1", "x<0 or y=1"],
        ),
        ("1<x<3", ["(1,3)", "3>x>1", r"x>1 \text{ and } x<3"], ["1<y<3", "[1,3]"]),
        (r"x<1 \text{ or } x>3", [r"(-\infty,1)\cup(3,\infty)"], ["1<x<3", r"(-\infty,1)"]),
    ],
)  # fmt: skip
def test_inequalities_are_the_intervals_that_solve_them(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"(-\infty,3)\cup(3,\infty)",
            ["all real numbers except 3", r"\text{All real numbers } x \text{ except } x = 3",
             r"x\in\mathbb{R}, x\ne3", r"x \ne 3 \text{ and } x \in \mathbb{R}"],
            ["all real numbers except 2", r"x\in\mathbb{R}", r"x\in\mathbb{R}, x>3", "3",
             r"\text{all real numbers except integers}"],
        ),
        (
            r"\text{all real numbers except } 3",
            [r"\mathbb{R}\setminus\{3\}", r"x \ne 3", "all reals except 3"],
            ["all real numbers except -3", "all real numbers except 3, 4", r"\mathbb{R}", "3"],
        ),
        (
            r"(-\infty,-4)\cup(-4,-2)\cup(-2,\infty)",
            [r"\text{all real numbers except } -4 \text{ and } -2"],
            ["all real numbers except -4", "all real numbers except -4 and 2"],
        ),
        (
            r"(-\infty,-\frac43)\cup(-\frac43,\infty)",
            [r"\text{all reals except } -\frac{4}{3}"],
            [r"\text{all reals except } \frac{4}{3}"],
        ),
    ],
)  # fmt: skip
def test_real_numbers_with_exceptions_are_a_set(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("(2,5)", ["]2,5[", r"x \in \left]2;5\right["], ["]2,5]", "[2,5["]),
        ("[2,5)", ["[2,5["], ["]2,5[", "[2,5]"]),
        ("(2,5]", ["]2,5]"], ["[2,5[", "]2,5["]),
        ("[2,5]", ["[2,5]"], ["]2,5["]),
        (
            r"(-\infty,2)\cup(3,\infty)",
            [r"]-\infty;2[ \cup ]3;+\infty[", r"(-\infty,2) \text{ or } (3,\infty)"],
            [r"]-\infty;2] \cup ]3;+\infty[", r"(-\infty,2] \text{ or } (3,\infty)"],
        ),
        (r"(-\infty,1)", [r"[-\infty,1)"], [r"(-\infty,1]"]),  # at infinity all are open
        ("(1,2),(3,4)", ["(1,2) or (3,4)"], []),  # points
    ],
)
def test_an_interval_may_be_in_other_brackets(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "wrong"),
    [
        ("5", ["x>4", r"x \ne 5", "5<x<6", r"\text{all real numbers}"]),
        ("(4,3)", ["4<x<3", "3<x<4"]),  # a point
        (r"s^2 \le 8r^2", [r"s \le 8r^2"]),
    ],
)
def test_inequalities_are_no_other_answers(gold, wrong):
    check(gold, [], wrong)


@pytest.mark.parametrize(
    "answer", ["x<", "<<<<", r"\{x : \}", "x<1," * 60, "x<y<z", r"1<2 \text{ or }", "x<1 or or x"]
)
def test_what_is_no_inequality_stays(answer):
    assert alike("(1,2)", answer) == ("(1,2)", answer)


@pytest.mark.parametrize(
    "piece", ["<", "x<1,", r"\{x:", " ", r"\text{ or }", "(", "]", "],", "all reals "]
)
def test_long_answers_take_no_time(piece):
    start = time.perf_counter()
    alike(piece * 20_000, piece * 250 + "<")
    assert time.perf_counter() - start < 1
