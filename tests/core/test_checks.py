"""What a value is, and how it is said what it should be."""

import math
from dataclasses import dataclass
from decimal import Decimal

import pytest

from sfpo_rllib.core.checks import (
    BOOL,
    first_line,
    integer,
    is_int,
    is_number,
    name_problems,
    nearest,
    none,
    number,
    of_attributes,
    one_of,
    problems_of,
    raise_problems,
    renamed,
    value_problems,
)

NO_NUMBERS = [math.nan, math.inf, -math.inf, True, "1", None, [1], 1j, Decimal(1)]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_what_is_no_finite_number_is_none(value):
    assert not is_number(value)
    assert not is_int(value)


@pytest.mark.parametrize("kind", ["int64", "uint8", "float32", "float64"])
def test_numpys_numbers_are_some(kind):
    numpy = pytest.importorskip("numpy")
    value = getattr(numpy, kind)(4)
    assert is_number(value, above=3, most=4) and not is_number(value, above=4)
    assert is_int(value, 4) == ("int" in kind) and not is_int(value, 5)


def test_what_else_numpy_has_is_no_number():
    numpy = pytest.importorskip("numpy")
    for value in (numpy.True_, numpy.float32("nan"), numpy.array([1, 2]), numpy.array(1)):
        assert not is_number(value) and not is_int(value)


def test_integers_that_no_float_holds_are_no_numbers():
    assert not is_number(10**400) and is_int(10**400)


def test_bounds_are_kept():
    assert is_int(0, 0) and not is_int(-1, 0) and not is_int(1.0)
    assert is_number(0.0, least=0.0) and not is_number(0.0, above=0.0)
    assert is_number(1, most=1.0) and not is_number(1.1, most=1.0)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (integer(1), 0, "an integer >= 1"),
        (integer(1) | none("all"), "a", "an integer >= 1 or None (all)"),
        (number(least=0.0), -1, "a number >= 0"),
        (number(above=0.0), 0, "a number > 0"),
        (number(least=0.0, most=1.0), 2, "a number in [0, 1]"),
        (number(above=0.0, most=1.0), 0, "a number in (0, 1]"),
        (number(unit=" (s)"), None, "a number (s)"),
        (one_of("keep", "drop"), "kep", "one of ['keep', 'drop']; did you mean 'keep'?"),
        (one_of("keep") | none(), "x", "'keep' or None"),
        (BOOL, 1, "True or False"),
    ],
)
def test_a_problem_names_field_value_and_what_would_be_right(kind, value, words):
    assert value_problems({"x": value}, {"x": kind}) == [f"x={value!r}: must be {words}"]
    assert value_problems({"x": value}, {"x": kind}, "a") == [f"a['x']={value!r}: must be {words}"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [(integer(1) | none(), None), (one_of("keep"), "keep"), (BOOL, False), (number(), 1)],
)
def test_what_is_of_its_kind_is_no_problem(kind, value):
    assert value_problems({"x": value}, {"x": kind}) == []


def test_unknown_names_are_listed_with_the_nearest():
    assert name_problems({"alpa": 1, "beta": 2}, ["beta", "alpha"], "a") == [
        "a['alpa']=1: no such setting; did you mean 'alpha'?; one of ['alpha', 'beta']"
    ]
    assert nearest("zzz", ["alpha"]) == nearest(3, ["alpha"]) == ""


def test_all_problems_are_raised_at_once_and_read_again():
    raise_problems([])
    with pytest.raises(ValueError, match=r"^a=1: no\nb=2: no$"):
        raise_problems(["a=1: no", "b=2: no"])
    with pytest.raises(ValueError, match=r"^Settings: invalid settings\na=1: no$"):
        raise_problems(["a=1: no"], of="Settings")
    assert problems_of(lambda: raise_problems(["a=1: no", "b=2: no"])) == ["a=1: no", "b=2: no"]
    assert problems_of(lambda: None) == []


def test_problems_take_the_names_that_were_given():
    assert renamed(["alpha=2: a=b", "k=0: no"], alpha="reposition_alpha") == [
        "reposition_alpha=2: a=b",
        "k=0: no",
    ]


def test_settings_are_taken_from_what_has_them_flat():
    @dataclass
    class Own:
        a: int = 1
        b: int = 2

    @dataclass
    class All:
        a: int = 3
        c: int = 4

    assert of_attributes(Own, All(), b=5) == Own(3, 5)


@pytest.mark.parametrize(
    ("text", "line"), [("", ""), ("\n a\nb", "a"), (ValueError("x\ny"), "x"), (ValueError(), "")]
)
def test_a_first_line_of_whatever_it_is(text, line):
    assert first_line(text) == line
