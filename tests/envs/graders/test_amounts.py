"""Amounts in more than one unit, and times of day."""

import time

import pytest
from answers import check
from sfpo_envs.graders.amounts import equal_amounts
from sfpo_envs.graders.clock import equal_times_of_day


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"80\text{ minutes}",
            ["1 hour 20 minutes", r"1\text{ hour and }20\text{ minutes}", "1h20min",
             r"1\,\text{h}\ 20\,\text{min}", "1 hour, 20 minutes"],
            ["1 hour 21 minutes", "1 hour 20 seconds", "1 m 20 cm", "80 seconds"],
        ),
        ("80", ["1 hour 20 minutes"], ["1 hour 25 minutes"]),
        ("1.5", ["1 hour 30 minutes"], ["1 hour 50 minutes"]),
        (
            r"1\text{ hour }20\text{ minutes}",
            ["80 minutes", "4800 s", r"\frac{4}{3} \text{ hours}", "80", "1:20"],
            ["1 hour 25 minutes", "20 minutes", "1 hour", "120 minutes", "1:25", "80 km"],
        ),
        (r"5\text{ ft }4\text{ in}", ["64 inches", "5 feet 4 inches"], ["5 ft 5 in", "54 in"]),
        (r"\$5.40", ["5 dollars and 40 cents"], ["5 dollars and 4 cents"]),
        (r"1\text{ m }20\text{ cm}", ["120 cm", "1.2 m"], ["102 cm", "1.2 s"]),
        ("2 and 3 cm", ["3, 2"], ["5 cm"]),
    ],
)  # fmt: skip
def test_an_amount_in_two_units_is_one_in_either(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"4:30\text{ p.m.}", ["16:30", "4:30 PM", "4:30"], ["4:30 a.m.", "15:30", "04:30"]),
        ("16:30", [r"4:30\text{ p.m.}", "4:30 pm"], ["4:30 am", "4:31 pm"]),
        (r"05\!:\!00", ["5:00", "5 a.m.", r"5:00\text{ a.m.}"], [r"5:00\text{ p.m.}", "17:00"]),
        (r"5\text{ p.m.}", ["5:00 p.m.", "17:00", "5"], ["5 a.m.", "6 p.m."]),
        (r"12:15\text{ a.m.}", ["0:15", "00:15", "12:15"], ["12:15 p.m."]),
        (r"4\!:\!51\!:\!06 \text{ p.m.}", ["16:51:06", "4:51:06"], ["4:51 pm", "4:51:07 p.m."]),
        ("9:24", ["9:24 a.m."], ["9:25 a.m."]),
        (r"5\text{ m}", ["5 m"], ["5 am"]),
    ],
)
def test_a_time_of_day_is_one_of_12_or_24_hours(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    "piece", ["1 hour ", "1:", " ", "1 ", r"\text{h}", "a.m. ", "1h", "9 and "]
)
def test_long_answers_are_no_amounts_and_take_no_time(piece):
    started = time.perf_counter()
    for length in (120, 4096):
        text = (piece * length)[:length]
        equal_amounts("80", text)
        equal_times_of_day("4:30 pm", text)
    assert time.perf_counter() - started < 0.5
