"""`sfpo-rllib envs` is `python -m sfpo_envs`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

Call = Callable[..., Any]


def test_environments_are_listed_and_checked(call: Call) -> None:
    listed = json.loads(call("envs", "list", "--json").out)
    assert "sfpo/Arithmetic-v0" in [each["id"] for each in listed]
    called = call("envs", "check", "sfpo/Arithmetic-v0", "--seeds", 2, "--show", 1)
    assert called.status == 0 and "reward 1, success" in called.out


def test_an_environment_with_errors_is_exit_code_1(call: Call) -> None:
    called = call("envs", "check", "sfpo/Nowhere-v0", "--show", 3, "--json")
    result = json.loads(called.out)
    assert called.status == 1 and (result["errors"], result["episodes"]) == (1, [])
    assert result["findings"][0]["check"] == "make"


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["-h"]])
def test_help_is_under_this_name(call: Call, arguments: list[str]) -> None:
    called = call("envs", *arguments)
    assert called.status == 0 and called.out.startswith("usage: sfpo-rllib envs")


@pytest.mark.parametrize("arguments", [[], ["chek"], ["check"], ["check", "x", "--config={"]])
def test_a_mistaken_call_is_one_line(call: Call, arguments: list[str]) -> None:
    called = call("envs", *arguments)
    assert called.status == 2
    (line,) = called.err.splitlines()
    assert line.startswith("sfpo-rllib envs")
