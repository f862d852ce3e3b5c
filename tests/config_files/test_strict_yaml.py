"""What a YAML means."""

import math
from typing import Any

import pytest

from sfpo_rllib.config_files.strict_yaml import dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),  # a text in YAML 1.1
        ("1E6", 1e6),
        ("+1.5e+3", 1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-.inf", -math.inf),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-01-02", "2026-01-02"),
        ("1_000", "1_000"),
        ("'1e-6'", "1e-6"),
        ("~", None),
        ("", None),
        ("null", None),
        ("e5", "e5"),
        ("1e", "1e"),
        (".", "."),
        ("[0, 1e-5]", [0, 1e-5]),
        ("{a: 1, b: {a: 2}}", {"a": 1, "b": {"a": 2}}),
        ("&x {a: 1, b: 2}", {"a": 1, "b": 2}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
    ],
)
def test_values_are_what_they_look_like(text: str, value: Any) -> None:
    parsed = parse(text)
    assert parsed == value and type(parsed) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse(".nan"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nseed: 0\nlr: 2", "line 3: lr: stands in line 1 already"),
        ("a: {x: 1, x: 1}", "line 1: x: stands in line 1 already"),
        ("1: x", "line 1: 1: must be a name; keys are texts"),
        ("? [1, 2]\n: x", "line 1: [1, 2]: must be a name; keys are texts"),
        ("a: [1", "line 1: "),
        ("a: 1\n b: 2", "line 2: mapping values are not allowed here"),
        ("a:\n\t- 1", "line 2: "),
        ("x: !!python/object/apply:os.system [ls]", "line 1: could not determine a constructor"),
        ("*nowhere", "line 1: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2", "line 2: expected a single document"),
        ("a: \x00", "unacceptable character"),
        ("[" * 1500, "is nested too deeply"),
    ],
)
def test_what_is_no_yaml_or_ambiguous_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        *("1e-6", "no", "null", "", "0o17", "12:30", "a: b", "é", "<<", "true", "- x", "1_0"),
        *(1e-6, 1e300, math.inf, 0, True, None, [], {}, ["1e5", 1e5]),
        {"a": [{"b": 1e-7}], "c": {"d": ["x", None]}},
    ],
    ids=repr,
)
def test_what_is_dumped_is_read_as_it_was(value: Any) -> None:
    again = parse(dump({"key": value}))["key"]
    assert again == value and type(again) is type(value)
