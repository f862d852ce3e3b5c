"""The expression parser: exact, bounded, and never Python's `eval`."""

import random
import time
from fractions import Fraction

import pytest
from sfpo_envs.arithmetic_expression import (
    MAX_BITS,
    MAX_CHARS,
    MAX_DEPTH,
    ExpressionError,
    evaluate,
    parse_number,
)


def random_expression(rng: random.Random, depth: int) -> str:
    kind = rng.choice("nnnbbbps") if depth else "n"
    if kind == "n":
        return f"Fraction('{rng.choice(['7', '0', '12', '1.5', '.25', '3.'])}')"
    inner = random_expression(rng, depth - 1)
    if kind == "p":
        return f"({inner})"
    if kind == "s":
        return f"{rng.choice('-+')}{inner}"
    blank = rng.choice(["", " "])
    return f"{inner}{blank}{rng.choice('+-*/')}{blank}{random_expression(rng, depth - 1)}"


def test_values_are_those_of_python_on_exact_fractions():
    rng = random.Random(0)
    num_values = 0
    for _ in range(3000):
        python = random_expression(rng, depth=5)
        text = python.replace("Fraction('", "").replace("')", "")
        try:
            expected = eval(python)
        except ZeroDivisionError:
            with pytest.raises(ExpressionError, match="division by zero"):
                evaluate(text)
            continue
        num_values += 1
        assert evaluate(text).value == expected, text
    assert num_values > 2000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2**10", 1024),
        ("2^10", 1024),
        ("-2**2", -4),
        ("(-2)**2", 4),
        ("2**3**2", 512),
        ("2**-2", Fraction(1, 4)),
        ("0**0", 1),
        ("1/3+1/6", Fraction(1, 2)),
        ("0.1+0.2", Fraction(3, 10)),
        ("8/2/2", 2),
        ("8-2-2", 4),
        ("--3", 3),
        (" 12 \n* 37\t", 444),
        ("7\u2212\u22122", 9),
        ("6\u00d77\u00f72\u22c52\u00b71", 42),
        ("1\u00a0+\u20031", 2),
    ],
)
def test_precedence_powers_and_typography(text, value):
    assert evaluate(text).value == value


def test_an_expression_tells_what_it_is_made_of():
    done = evaluate("-(3+5.5)*2**2")
    assert done.numbers == (3, Fraction(11, 2), 2, 2)
    assert sorted(done.operators) == ["*", "**", "+", "neg"]


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("", "expected a number, found the end", 0),
        ("1+", "expected a number, found the end", 2),
        ("1 2", "unexpected '2'", 2),
        ("2(3)", r"unexpected '\('", 1),
        ("(1+2", r"expected '\)'", 4),
        ("1+2)", r"unexpected '\)'", 3),
        ("1+*2", r"expected a number, found '\*'", 2),
        ("a+1", "unexpected 'a'", 0),
        ("1,000", "unexpected ','", 1),
        ("1e9", "unexpected 'e'", 1),
        ("\u0663+1", "unexpected", 0),
        ("4/(2-2)", "division by zero", 1),
        ("0**-1", "division by zero", 1),
        ("2**.5", "the exponent is not an integer", 1),
        ("2**1001", "too large", 1),
        ("99**999", "too large", 2),
        (".", "unexpected '.'", 0),
        ("9" * 101, "a number of more than 100 digits", 0),
        ("1" + "+1" * MAX_CHARS, "more than 1000 characters", MAX_CHARS),
        ("(" * 99 + "1" + ")" * 99, "nested more than 50 deep", MAX_DEPTH + 1),
        ("-" * 99 + "1", "nested more than 50 deep", MAX_DEPTH + 1),
        ("__import__('os')", "unexpected '_'", 0),
        ("\ud800", "unexpected", 0),
    ],
)
def test_errors_say_what_and_where(text, message, position):
    with pytest.raises(ExpressionError, match=message) as caught:
        evaluate(text)
    assert caught.value.position == position
    assert str(caught.value).endswith(f"at character {position + 1}")


HOSTILE = [
    "9**9**9**9",
    "(((9**999)**999)**999)",
    "*".join(["9" * 99] * 10),
    "/".join(["7" * 99] * 10),
    "+".join(f"1/{n}" for n in range(2, 300))[:MAX_CHARS].rstrip("+/"),
    "1.1**1000",
    "9**100*" * 100 + "1",
    "(" * 10**6,
    "9" * 10**6,
    "-" * 10**6,
    "1+" * 500,
    "\x00" * 100,
    "9999999!",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_costs_milliseconds_and_keeps_values_small(text):
    started = time.perf_counter()
    try:
        value = evaluate(text).value
    except ExpressionError:
        pass
    else:
        assert max(value.numerator.bit_length(), value.denominator.bit_length()) <= MAX_BITS
        str(value)
    assert time.perf_counter() - started < 0.5


def test_random_text_is_evaluated_or_refused():
    rng = random.Random(1)
    for _ in range(3000):
        text = "".join(rng.choices("0123.+-*/^() \u2212\u00d7a,", k=rng.randrange(20)))
        try:
            evaluate(text)
        except ExpressionError as error:
            assert 0 <= error.position <= len(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        (" -42\n", -42),
        ("\u221242", -42),
        ("+4.20", Fraction(21, 5)),
        ("-6/4", Fraction(-3, 2)),
        ("1,234,567.5", Fraction(2469135, 2)),
        (".5", Fraction(1, 2)),
        ("6*7", None),
        ("6/0", None),
        ("1,23", None),
        ("--1", None),
        ("1/2/3", None),
        ("four", None),
        ("", None),
        ("\u0664\u0662", None),
        ("9" * 10**6, None),
    ],
)
def test_numbers_are_read_and_operations_are_not(text, value):
    assert parse_number(text) == value
