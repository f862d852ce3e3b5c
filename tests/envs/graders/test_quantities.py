"""Times, congruences, angles, letters of choices: what is said besides a value, and what is not."""

import pytest
from answers import check


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"8:34 \text{ p.m.}",
            ["8:34", "8:34 pm", r"8{:}34\text{ p.m.}", "08:34 PM", "8:34 P.M.", r"8\!:\!34"],
            ["4:17", "8:34 am", "8:35", "834"],
        ),
        ("10:30", ["10:30", r"10\text{:}30", r"10:30 \text{ a.m.}"], ["5:15", "1:3", r"\frac13"]),
        (r"05\!:\!00", ["5:00", r"5:00 \text{ a.m.}"], ["5:01", "5"]),
        ("3:05", ["3:05 pm"], ["3:5", "3:06"]),
        (r"4\!:\!51\!:\!06 \text{ p.m.}", ["4:51:06 pm"], ["4:51:07 pm", "4:51"]),
    ],
)
def test_a_time_is_no_ratio(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1:2", ["2:4", r"\frac{1}{2}"], ["2:1", "1:3"]),
        ("19:60", ["19:60"], ["60:19"]),
        ("120:96", ["5:4"], ["4:5"]),
    ],
)
def test_a_ratio_is_no_time(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "5",
            [
                r"5 \pmod{7}",
                r"x \equiv 5 \pmod 7",
                r"5 \bmod 7",
                r"5\text{ (mod 7)}",
                r"5 (\text{mod } 7)",
            ],
            [r"6 \pmod{7}", r"x \equiv 4 \pmod 7", r"7 \pmod 5"],
        ),
        (r"5 \pmod 7", ["5", r"5 \bmod 7", r"x\equiv5\pmod{7}"], ["6", r"5\pmod{8}"]),
        ("1,3", [r"1,3 \pmod 8", r"x \equiv 1, 3 \pmod 8"], [r"1,2\pmod 8"]),
    ],
)
def test_a_modulus_may_be_missing_but_not_another(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\frac12", [r"\sin 30^\circ", r"\sin(30^\circ)", r"\cos{60°}"], [r"\sin 60^\circ"]),
        (r"\tan 15^\circ", [r"2-\sqrt{3}", r"\tan(15^\circ)"], [r"2+\sqrt3", r"\tan 15"]),
        (r"\sin^2 10^\circ", [r"1-\cos^2 10^\circ"], [r"\sin^2 20^\circ"]),
        (r"\sin 22.5^\circ", [r"\frac{\sqrt{2-\sqrt{2}}}{2}"], [r"\cos 22.5^\circ"]),
    ],
)
def test_a_function_of_degrees_has_a_value(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("5", [r"\textbf{(C)}\ 5", r"\text{(C) } 5", r"\mathrm{(C)}~5"], [r"\textbf{(C)}\ 6"]),
        (r"\frac{3}{5}", [r"\textbf{(D)}\ \frac{3}{5}"], [r"\textbf{(D)}\ \frac{3}{4}"]),
        ("Ax", ["(A)x"], ["x"]),
    ],
)
def test_the_letter_of_a_choice_may_be_before_its_value(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"\dfrac{1}{29,\!322,\!216}",
            [r"\frac{1}{29,322,216}", r"\frac{1}{29322216}"],
            [r"\frac{1}{29,322,217}", r"\frac{1}{29}"],
        ),
        (r"\dfrac{2469}{20,\!000}", [r"\frac{2,469}{20,000}"], [r"\frac{2469}{20,001}"]),
        (r"\frac{\sqrt{3}}{1000}", [r"\frac{\sqrt{3}}{1,000}"], [r"\frac{\sqrt{3}}{100}"]),
        (r"\{100,200\}", [r"\{200, 100\}"], [r"\{100200\}"]),
    ],
)
def test_commas_in_a_fraction_are_of_thousands(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("(3,4)", ["(3, 4)"], [r"\{3,4\}"]),
        ("(1,2),(3,4)", [r"\{(1,2),(3,4)\}"], [r"\{(1,2),(4,3)\}"]),
        ("3", ["3"], [r"3\text{ or more}", r"3 \text{ halves}", r"\text{at least } 3"]),
        ("40_9", ["40_9", "40"], ["40_0", "40_1"]),
    ],
)
def test_what_changes_the_value_is_not_dropped(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\frac{\pi}{6}", [r"30^\circ", "30 degrees", r"x = 30^\circ"], [r"60^\circ", "30"]),
        (r"\pi", [r"180^\circ"], [r"180^\circ C", r"1^\circ"]),
        (r"30^\circ", [r"\frac{\pi}{6}", r"\pi/6 \text{ rad}"], [r"30\pi", r"\pi/3"]),
        (r"-45^\circ", [r"-\frac{\pi}{4}"], [r"\frac{\pi}{4}", r"\frac{\pi}{4} \text{ cm}"]),
    ],
)
def test_an_angle_in_degrees_is_the_same_in_radians(gold, right, wrong):
    check(gold, right, wrong)
