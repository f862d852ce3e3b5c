"""The same answer in other spellings, and other answers in nearly the same."""

# ruff: noqa: RUF001  # look-alikes are what is tested

import random
import time

import pytest
from answers import boxed, check
from sfpo_envs import Verdict
from sfpo_envs.graders import _worker
from sfpo_envs.graders.search import find_answer
from sfpo_envs.graders.sight import SMALL_TOLERANCE, TOLERANCE
from sfpo_envs.graders.spelling import respell
from sfpo_envs.graders.units import split_unit


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "4.5e33",
            [r"4.5 \times 10^{33}", r"4.5 \cdot 10^{33}", "4.5E+33", "45" + 32 * "0",
             r"4.5 \times 10^{33}\text{ erg/s}", r"4.5 \cdot 10^{33}\text{ erg/s}", "4.5e33 erg/s",
             r"4.5E+33\text{ erg/s}", "45" + 32 * "0" + r"\text{ W}", "45e32", "4.5×10³³"],
            [r"4.5 \times 10^{32}", r"4.6 \times 10^{33}", "-4.5e33", "4.5e", "4.5", "4.5e-33"],
        ),
        ("1e-5", ["0.00001", "10^{-5}", "1E-05", r"\frac{1}{100000}"], ["10^{-6}", "1e5"]),
        ("1e-05", ["10^{-5}", "0.00001"], ["10^{-4}"]),
        ("1e+16", ["10^{16}", "10000000000000000", "1e16"], ["1e15", r"10^{16}+1"]),
        ("3E8", ["300000000", "300,000,000", r"3\times 10^8 \text{ m/s}"], ["3e7", "-3e8", "38"]),
        ("-1.6e-19", [r"-1.6\times 10^{-19}", "-1.6x10^-19", "-1.6*10**-19"], ["1.6e-19"]),
        ("6.02e23", ["602" + 21 * "0", r"6.02\text{e}23"], ["6.03e23", "6.02e22"]),
        ("0.001", ["1e-3", r"10^{-3}\text{ m}"], ["1e-4"]),
        ("(1e3, 2)", ["(1000, 2)"], ["(100, 2)"]),
    ],
)  # fmt: skip
def test_e_notation_is_a_number(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("2e", ["2e", r"2 \cdot e", r"2\mathrm{e}", "5.43656365691809"], ["2", "3e"]),
        ("e^2", [r"\exp(2)", r"\mathrm{e}^2"], ["e^3", "100"]),
        ("3e^{2}", ["3e^2"], ["300", "3e2"]),
        ("1e5x", ["1e5x"], ["100000x"]),
        ("2e-3", ["0.002"], ["2e^{-3}"]),
        (r"1E5_{16}", ["1E5_{16}"], ["100000"]),
    ],
)
def test_elsewhere_e_is_eulers_number(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"1.6\times 10^{-19}", ["1.6e-19"], ["10^{-99}", r"-1.6\times 10^{-19}", "1.7e-19", "0"]),
        (r"\frac{1}{2^{64}}", ["2^{-64}", "5.421010862e-20"], [r"\frac{1}{2^{63}}", "5.43e-20"]),
        (r"\frac{1}{3^{50}}", ["3^{-50}"], [r"\frac{1}{3^{51}}", "0"]),
        ("0", ["0.0", "0e5"], ["10^{-20}", "1e-20", r"10^{-20}\pi"]),
        ("0.0000001", ["10^{-7}"], ["0.0000002"]),
        (r"10^{-20}\pi", [r"\frac{\pi}{10^{20}}"], [r"10^{-21}\pi"]),
        (r"\sqrt{2} \cdot 10^{-20}", [r"1.41421356 \cdot 10^{-20}"], [r"\sqrt{3} \cdot 10^{-20}"]),
        (r"(1.6\times 10^{-19}, 2)", ["(1.6e-19, 2)"], ["(1.7e-19, 2)", "(0, 2)"]),
        (r"(1, 2, 10^{-30})", ["(1, 2, 1e-30)"], ["(1, 2, 10^{-31})", "(1, 2, 0)"]),
        (r"\{1e-20, 1\}", [r"\{1, 10^{-20}\}"], [r"\{1, 2 \times 10^{-20}\}", r"\{0, 1\}"]),
        ("10^{-20}, 10^{-30}", ["10^{-30}, 10^{-20}"], ["10^{-31}, 10^{-20}"]),
        ("[0, 10^{-20}]", ["[0, 1e-20]"], ["[0, 10^{-21}]", "[0, 0]"]),
        (r"(\frac{1}{2^{63}}, 1)", ["(2^{-63}, 1)"], [r"(\frac{1}{2^{64}}, 1)"]),
        (
            r"\begin{pmatrix} 10^{-20} \\ 1 \end{pmatrix}",
            [r"\begin{pmatrix} 1e-20 \\ 1 \end{pmatrix}"],
            [r"\begin{pmatrix} 10^{-21} \\ 1 \end{pmatrix}"],
        ),
        ("x = 10^{-20}", ["x = 1e-20", "10^{-20}"], ["x = 10^{-21}", "0"]),
        ("10^{-20} x", [r"\frac{x}{10^{20}}"], ["10^{-21} x"]),
    ],
)  # fmt: skip
def test_different_numbers_are_different_however_small(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\frac{1}{3}", ["0.333333", "0.33333333"], ["0.33333", "0.33"]),
        (r"\frac{1}{3000}", ["0.00033333333"], ["0.000333"]),
        (r"\frac{8}{3}", ["2.666667"], ["2.6667"]),
        ("2^{2008} - 2", ["-2 + 2^{2008}"], ["2^{2008} - 3"]),
        (r"\sqrt{10^{40}+1}", [], ["10^{20}"]),
        ("5", ["5.0"], ["5.0000001"]),
        (r"\sqrt{2}", ["1.41421356"], ["1.4142", r"1.41421356\sqrt{2}"]),
    ],
)
def test_a_decimal_agrees_to_six_places_and_a_small_one_to_five_digits(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1,2", ["1,2", "2,1", "1, 2"], ["1.2", "12", "1"]),
        ("-5,7", ["7,-5"], ["-5.7"]),
        ("2500,7500", ["7500, 2500"], ["2500.75"]),
        ("12,9", ["9,12"], ["12.9"]),
        ("58,500", ["58500", r"58\,500", "58 500", "n = 58,500"], ["58.5", "500, 58"]),
        ("58500", ["n = 58,500", r"S = 58,500 \text{ ways}", r"C = \$58,500"], ["n = 58,501"]),
        ("100, 200", ["x = 100, 200"], ["x = 100,200"]),
        ("2.74", ["2,74"], ["274"]),
        ("5", ["5.", "+5", "5.0", "{5}"], ["-5", ".5"]),
        ("1000", [r"1\,000", "1 000", "1,000", "1{,}000", r"1,\!000"], ["1.000", "1, 000"]),
        ("5/4", ["1 1/4", r"1\frac{1}{4}", "1.25", "1¼"], ["11/4", "1"]),
        ("-3./2", ["-1.5", r"-\frac{3}{2}"], ["1.5"]),
    ],
)
def test_numbers_are_read_alike_in_a_box_and_in_a_whole_reply(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("The answer is $1 1/4$", "1 1/4"),
        ("so we get 4.5e33 erg/s in all.", "4.5e33 erg/s"),
        ("The speed comes to 12 km/h then", "12 km/h"),
        ("There are 5 apples left in the basket.", "5"),
        (r"Hence it is 1.6 \times 10^{-19} C.", r"1.6 \times 10^{-19} C"),
        ("It is 1\u202f000.", "1\u202f000"),
        ("the answers are 1,2", "1,2"),
        ("I have $x = 3$. The answer is $4$, not $5$.", "4"),
        ("$1$ and $2$ or $3$", "1, 2, 3"),
        ("69$,$84", "69,84"),
        (r"So \boxed{4} after $x = 5$", "4"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$\boxed{7}$ so far. The final answer is $8$. I hope it is correct.", "8"),
        (r"\boxed{7}. That final answer is in simplest form, of 3 digits less.", "7"),
        ("1 + 2 = 3 and so on and on, 3 + 4", None),
        (r"\frac{1}{L C s^{2}+R C s+1}", r"\frac{1}{L C s^{2}+R C s+1}"),
        ("18 square feet of carpet", "18 square feet of carpet"),
    ],
)
def test_the_answer_of_a_whole_reply(reply, found):
    assert find_answer(reply) == found


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "25_8",
            ["25_{8}", "25", "(25)_8", r"25_{\text{eight}}", "25₈", r"25 \text{ (base 8)}",
             "25 base 8"],
            ["25_9", "26_8", "21_{10}", "-25_8", "52_8"],
        ),
        (r"\text{A5}_{11}", ["A5_{11}", "A5"], ["A6_{11}", "A5_{12}"]),
        ("-37_8", ["-37_{8}"], ["37_8", "-37_9"]),
        ("1101001_2", [r"1101001_{\text{two}}", "1101001"], ["1101001_{10}", "105"]),
        ("25", ["25_8"], ["26_8"]),
        ("43_5.", ["43_5"], ["43_6"]),
    ],
)  # fmt: skip
def test_the_base_of_a_number_counts_unless_one_has_none(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("62.5%", ["62.5", r"62.5\%", "0.625", "62.5 percent"], ["62.6", r"6.25\%", "6.25"]),
        (r"50\%", ["50", r"\frac{1}{2}", r"50 \text{ percent}", "50 pct"], ["51", r"50\text{ cm}"]),
        (r"33\frac{1}{3}\%", [r"\frac{100}{3}\%", r"\frac{1}{3}", r"33.3333333\%"], ["34"]),
        (r"33\frac{1}{3}\%", [], [r"\frac{1}{3}\%", r"3\frac{1}{3}\%"]),
        ("10", [r"10\%"], [r"11\%"]),
        ("0.1", [r"10\%"], [r"11\%", r"1\%"]),
        (r"237.5\%", ["2.375", "237.5"], ["23.75"]),
        (r"10\%, 20\%", [r"20\%, 10\%", "10, 20"], [r"10\%, 30\%"]),
        (r"0.56 = 56\%", ["0.56", r"56\%"], [r"57\%"]),
        (r"100p^2\%", [r"100p^2\%", "p^2"], [r"100p\%"]),
    ],
)  # fmt: skip
def test_a_percent_sign_may_be_missing_or_worked_out(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            r"90^\circ",
            [
                "90°",
                r"90\degree",
                r"90^{\circ}",
                "90 degrees",
                r"90\text{ degrees}",
                "90",
                "90 deg",
            ],
            ["91°", r"90\text{ cm}", r"-90^\circ"],
        ),
        ("90", ["90°", r"90^\circ"], ["91°"]),
        (r"(6,235^\circ)", ["(6, 235°)", "(6, 235)"], ["(6, 236°)"]),
        (r"75^\circ, 15^\circ", ["15°, 75°", "75, 15"], ["75°, 16°"]),
        (r"20^\circ\text{C}", ["20 degrees Celsius", "20°C", r"20^\circ"], ["20°F", "21°C"]),
    ],
)
def test_degrees_are_written_in_many_ways(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("18", ["18 dollars", r"\$18", "€18", r"18\text{ cm}"], ["19 dollars", "18x", "18i"]),
        (
            "18",
            [r"\$18/\text{day}", r"\$18/hour", "18 years old", "18 times", "US$18"],
            [r"\$19/\text{day}", "19 years old", "18/2", "US$19"],
        ),
        (r"382 \text{ dollars}", [r"\$382 \text{ dollars}"], [r"\$383 \text{ dollars}"]),
        ("18 dollars", ["18", r"\$18", "18 USD"], ["18 euros", "18 cents", r"\$19", "18 cm"]),
        ("1000", ["1000 people", "1,000 people"], ["100 people"]),
        ("10 apples", ["10", "10 apple", "10 red apples"], ["10 oranges", "11 apples"]),
        (
            "12 km/h",
            ["12", "12 kmh", r"12\text{ km/h}", r"12\,\mathrm{km\,h^{-1}}", "12 km per hour",
             r"12\ \frac{\text{km}}{\text{h}}", "12 kilometers per hour", "12 kph"],
            ["12 m/s", "12 mph", "13 km/h", "12 km"],
        ),
        (r"12\text{ cm}", ["12", "12 cm", "12 centimetres"], [r"12\text{ m}", "12 mm", "12 cm^2"]),
        (r"864 \mbox{ inches}^2", ["864", "864 square inches", "864 in^2"], ["864 cm^2", "864 in"]),
        (r"9.8\text{ m/s}^2", [r"9.8\,\mathrm{m\,s^{-2}}", "9.8 m/s^2"], ["9.8 m/s"]),
        (r"5\text{ N}", [r"5\text{ kg m/s}^2"], [r"5\text{ J}", r"5\text{ kN}"]),
        (r"3\text{ hours}", ["3 h", "3 hrs"], ["3 days", "180 minutes"]),
        (r"4\!:\!51 \text{ p.m.}", ["4:51 pm", "4:51"], [r"4:51 \text{ a.m.}"]),
        (r"20\text{ square units}", ["20", r"20\text{ cm}^2"], ["21"]),
        (r"480 + 480\sqrt{3}\text{ feet}", [r"480(1+\sqrt{3})", r"480 + 480\sqrt{3} \text{ ft}"],
         [r"480 + 480\sqrt{3}\text{ m}"]),
        (r"5 \text{ million}", ["5000000", r"5 \times 10^6", "5 million dollars"], ["5"]),
        (r"4\text{th}", ["4", "4^{th}"], ["5th"]),
    ],
)  # fmt: skip
def test_a_unit_may_be_missing_but_not_another(gold, right, wrong):
    check(gold, right, wrong)


UNITS = [
    r"\,M_{\odot}",
    r"\text{ erg s}^{-1}",
    r"\text{ particles/cm}^3",
    r"~\text{m}",
    r"\,{\rm m}",
]
UNITS += [r"\,\mathrm{erg\,s^{-1}\,cm^{-2}}", r"\text{ J}\cdot\text{s}", r"\ \mu\text{m}", " °C"]
UNITS += [r"\ (\text{m/s})", r"\ \frac{\mathrm{m}}{\mathrm{s}^2}", r"\,\rm m", r"\text{ (m/s)}"]
UNITS += [
    r"\text{ miles per gallon}",
    r"\text{ years old}",
    r"\text{ light-years}",
    r"\text{ $m^2$}",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_number_with_any_unit_is_that_number(unit):
    check("4.5e3", [f"4500{unit}", rf"4.5 \times 10^3{unit}"], [f"4501{unit}", f"-4500{unit}"])


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("6m", ["6m", "6 m", r"6 \cdot m"], ["6", "6s", "m"]),
        (r"\frac{37}{4} m", ["9.25m", r"\frac{37m}{4}"], [r"\frac{37}{4}"]),
        ("2s", ["2s"], ["2"]),
        ("3x", ["3x"], ["3"]),
        ("2ab", ["2ba"], ["2"]),
        (r"\frac{1}{m} t", [r"\frac{t}{m}"], [r"\frac{1}{m}"]),
        (r"5\text{ m}", ["5 m", "5m"], ["5 s"]),
        (r"\text{east}", ["East"], ["west", "t"]),
        (r"4 \text{ or } 5", ["5, 4"], ["4", "5"]),
    ],
)
def test_a_variable_and_a_word_are_no_unit(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\ln 2", ["ln 2", "ln(2)", r"\mathrm{ln}\,2"], ["ln 3"]),
        (r"\sin(x)", ["sin(x)", "sin x"], ["cos(x)", r"\sin(2x)"]),
        (r"\frac{\pi}{2}", ["pi/2", "π/2", "np.pi/2"], ["pi/3", "p/2"]),
        ("x^2+1", ["x**2+1", "x²+1"], ["x**3+1"]),
        ("x^{n+1}", ["x**(n+1)", "x^(n+1)"], ["x**n+1"]),
        (r"\frac{\sqrt{3}}{2}", ["sqrt(3)/2", "√3/2", "√(3)/2"], ["√2/2", "sqrt(3/2)"]),
        (r"\sqrt{2+\sqrt{3}}", ["sqrt(2+sqrt(3))", "√(2+√3)"], ["sqrt(2)+sqrt(3)"]),
        ("np.arcsin(10/13)", [r"\arcsin\frac{10}{13}", "arcsin(10/13)"], [r"\arccos(10/13)"]),
        (r"\log_2 x", ["log2(x)", "log_2(x)"], ["log3(x)"]),
        (r"\alpha+\beta", ["α+β", "alpha + beta"], ["α-β"]),
        (r"(-\infty, 2]", ["(−∞, 2]", "(-infinity, 2]"], ["(−∞, 2)", "(∞, 2]"]),
        (r"[-2,7]", ["x ∈ [-2,7]"], ["x ∈ [-2,7)"]),
        (r"\frac{1}{2}", ["½", "１/２"], ["⅓"]),
        ("52", ["５２", "𝟓𝟐"], ["５３"]),
        ("-5", ["–5", "−5", "－5"], ["5"]),
        ("2+3i", [r"2+3\mathrm{i}", r"2+3\text{i}", "3i+2"], [r"2-3\mathrm{i}", "2+3"]),
        (r"1+\sqrt{3} i", [r"1+\sqrt3i", r"1+\mathrm{i}\sqrt{3}"], [r"1-\sqrt{3}i"]),
        (r"\emptyset", [r"\varnothing", "∅", r"\{\}"], [r"\{0\}", "0"]),
        (r"I_{\max}=\frac{q}{2}", [r"\frac{q}{2}", "I_{max}=q/2"], [r"\frac{q}{3}"]),
        (r"\frac{1}{3} E_{1}", [r"\frac{E_1}{3}"], [r"\frac{E_2}{3}", r"\frac{1}{3} e"]),
        (r"\text{October 30}", ["October 30", "october 30"], ["October 31"]),
        (r"\text{B,E}", ["E, B", r"\text{B}, \text{E}"], [r"\text{B}", r"\text{B,D}"]),
    ],
)
def test_plain_and_unicode_spellings_are_those_of_latex(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\frac{1}{3}", [r"0.\overline{3}", "0.(3)", "0.333...", r"0.\dot{3}", "0.333…"],
         [r"0.\overline{4}", "0.3", r"0.0\overline{3}"]),
        (r"0.\overline{3}", [r"\frac13", r"0.\bar{3}"], ["0.3", "0.33"]),
        (r"\frac{1}{7}", [r"0.\overline{142857}", r"0.\dot{1}4285\dot{7}", "0.142857142857..."],
         [r"0.\overline{142858}"]),
        (r"-\frac{13}{6}", [r"-2.1\overline{6}", "-2.1666..."], [r"2.1\overline{6}"]),
        ("1", [r"0.\overline{9}"], [r"0.\overline{8}"]),
        (r"(0.\overline{3}, 1)", [r"(\frac{1}{3}, 1)"], ["(0.3, 1)"]),
    ],
)  # fmt: skip
def test_a_repeating_decimal_is_its_fraction(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1,1,2", ["2,1,1"], ["1,2", "1,2,2", "1,1,1,2"]),
        ("1,2", ["2,1"], ["1,1,2"]),
        ("-2,-2", ["-2, -2"], ["-2"]),
        ("3", ["3"], ["3,3"]),
        (r"\sqrt{2},\sqrt{2}", [r"\sqrt2, \sqrt2"], [r"\sqrt{2}"]),
        (r"\{1,1,2\}", [r"\{1,2\}", r"\{2,1\}"], [r"\{1,3\}"]),
        ("1,1,2", [r"\{1,1,2\}"], [r"\{1,2\}"]),
    ],
)
def test_a_list_says_how_often_and_a_set_does_not(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{5}{19}", r"foo( \frac{5}{19}"),
        (r"\frac{5}{19}, \frac{16}{19}", r"-( \frac{5}{19}, \frac{16}{19} )"),
        ("1 = 1", "1 = 2"),
    ],
)
def test_nothing_is_picked_out_of_what_cannot_be_read(gold, answer):
    assert boxed(rf"\boxed{{{answer}}}", gold).verdict is Verdict.WRONG


def test_a_worker_and_this_process_allow_the_same_difference():
    assert (
        float(TOLERANCE),
        float(SMALL_TOLERANCE),
    ) == (_worker._TOLERANCE, _worker._SMALL_TOLERANCE)


def test_reading_a_hostile_answer_takes_little_time():
    rng = random.Random(0)
    words = r"\text{ { } ( ) ^ _ 1 2 . , e E \frac \sqrt( sqrt( √ km / h ² \times 10^ % $ \, a b ½"
    pieces = words.split()
    texts = [piece * (4096 // len(piece)) for piece in pieces]
    texts += ["".join(rng.choices([*pieces, " "], k=1000)) for _ in range(40)]
    for text in texts:
        started = time.perf_counter()
        split_unit(respell(text))
        find_answer(text)
        assert time.perf_counter() - started < 2, text[:40]


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("2:3:4", ["2 : 3 : 4", "4:6:8"], ["2:4:3", "2:3", "3:2:4", "2:3:4:5"]),
        ("9:24", ["9:24."], ["9:25."]),
        ("2,3", ["3,2"], [r"2,3,\ldots", "2, 3, ...", r"2,3,\dots"]),
        (r"1,2,\ldots,n", [r"1,2,\dots,n", "1,2,...,n"], [r"1,2,\ldots,m"]),
    ],
)
def test_ratios_times_and_rows_that_go_on(gold, right, wrong):
    check(gold, right, wrong)
