"""Which letters are the same variable, and which are no variable."""

import time

import pytest
from answers import check
from sfpo_envs.graders.naming import as_texts
from sfpo_envs.graders.spelling import respell


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\pi(R^2-r^2)", [r"\pi(R-r)(R+r)"], ["0", r"\pi(r^2-R^2)"]),
        ("R-r", ["-r+R"], ["r-R", "0"]),
        (r"\frac{M-m}{M+m}g", [r"\frac{(M-m)g}{m+M}"], ["0", r"\frac{m-M}{M+m}g"]),
        (r"\frac{v}{V}", ["v/V"], ["1", r"\frac{V}{v}"]),
        (r"\frac{GMm}{r^2}", [r"\frac{GmM}{r^2}"], [r"\frac{GM^2}{r^2}"]),
        ("E_K-E_k", ["-E_k+E_K"], ["0"]),
        (r"\Delta-\delta", [r"-\delta+\Delta"], ["0", r"\delta-\Delta"]),
        ("1", [], [r"\frac{v}{V}"]),
        ("V^2", ["v^2"], ["Vv"]),  # alone it may be either
        (r"r\sqrt{R}, r \in \mathbb{R}", [r"r\sqrt{R}, r \in \mathbb{R}"], ["r"]),
    ],
)
def test_a_letter_in_both_cases_is_two_variables(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\gamma+1", [r"1+\gamma", "γ+1"], ["1", "1.5772156649"]),  # noqa: RUF001
        (r"\alpha+\beta+\gamma", [r"\gamma+\beta+\alpha"], [r"\alpha+\beta"]),
        (r"\frac{\gamma}{\gamma-1}", [r"\gamma/(\gamma-1)"], ["0"]),
        (r"\Gamma(5)", ["24"], ["25"]),
        (r"2\Pi", [r"\Pi \cdot 2"], [r"2\pi"]),
    ],
)
def test_a_greek_letter_is_a_variable(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("a+b-m", ["b+a-m"], ["a+b", "a+b+m"]),
        ("x+y=N", ["y+x=N"], ["y+x=M"]),
        ("2RC+R+C", ["RC+RC+R+C"], ["2RC+R", "2RC+R-C"]),
        ("(x-1)mc", [r"(x-1)cm"], ["x-1"]),
    ],
)
def test_the_last_variable_of_a_formula_is_no_unit(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("Alice", ["alice", r"\text{Alice}", "**Alice**"], ["Celia", "**Celia**"]),
        ("ABCD", ["A B C D", r"\text{ABCD}"], ["BADC"]),
        ("LQSX", ["LQSX"], ["LQXS"]),
        ("Bob", ["bob"], ["Obb"]),
    ],
)
def test_the_letters_of_a_word_have_an_order(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("2ab", ["2ba"], ["2a"]),
        ("mgh", [r"m \cdot g \cdot h", "hgm"], ["mg"]),
        ("RC", ["CR"], ["R"]),
    ],
)
def test_those_of_a_product_have_none(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("f'(x)", [r"f^{\prime}(x)", r"f^\prime(x)", "f′(x)"], ["f(x)", "f''(x)", "xf(x)"]),  # noqa: RUF001
        ("f''(x)", [r"f^{\prime\prime}(x)", "f″(x)", "f^{''}(x)"], ["f'(x)", "f(x)"]),
        ("y'", ["y^{'}"], ["y", "y''", "y^2"]),
        ("y_1'", ["y'_1", "y_{1}'", r"y^\prime_1"], ["y_1", "y_2'", "y_1''"]),
        ("y'+ry=x", [r"y^{\prime}+ry-x=0"], ["y+ry=x", "y''+ry=x"]),
        ("f'g+fg'", [r"f\cdot g'+g\cdot f'"], ["fg+fg", "f'g-fg'"]),
        ("(fg)'", [r"(gf)^{\prime}"], ["fg", "f'g'"]),
        (r"\hat{y}'", [r"\hat{y}^{\prime}"], [r"\hat{y}"]),
        ("(x')^2+x", ["x'x'+x"], ["x^2+x", "x''+x"]),
        (r"\angle A'BC", [r"\angle A^{\prime} B C"], [r"\angle ABC"]),
        ("5'", ["5"], ["6"]),  # feet, or minutes of an angle
    ],
)
def test_a_primed_letter_is_another(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    "piece",
    ["'", "y'", r"\prime", r"y^{\prime", "a", r"\a", "a_", "x ", r"x_{1} ", r"2\choose ", "(x,",
     r"{2n \choose", r"2\binom", "1 to "],
)  # fmt: skip
def test_names_are_read_in_linear_time(piece):
    text = (piece * 4096)[:4096]
    started = time.perf_counter()
    as_texts(respell(text), text)
    assert time.perf_counter() - started < 1
