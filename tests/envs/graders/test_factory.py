"""Making graders: names, settings, and functions of the user's."""

import ast
import dataclasses
import math
import re
import threading

import pytest
from repository import ROOT
from sfpo_envs import Grade, Verdict, check_gold, make_grader
from sfpo_envs.graders import EXTRACTORS, GRADERS

DOCS = ROOT / "docs" / "graders.md"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("maths", {}, "grader='maths': did you mean 'math'. must be one of math, exact"),
        ("math", {"timeout": 1}, "timeout: no setting of grader 'math'; did you mean 'timeout_s'"),
        ("numeric", {"timeout_s": 1}, "timeout_s: no setting of grader 'numeric'"),
        ("math", {"timeout_s": 0}, "timeout_s=0: must be positive"),
        ("math", {"timeout_s": math.nan}, "timeout_s=nan: must be positive"),
        ("math", {"memory_mb": 100}, "memory_mb=100: must be 256 or more"),
        ("math", {"cache_size": -1}, "cache_size=-1: must not be negative"),
        ("numeric", {"relative_tolerance": -1}, "relative_tolerance=-1: must be a number"),
        ("numeric", {"absolute_tolerance": math.nan}, "absolute_tolerance=nan: must be a number"),
        ("numeric", {"percent": "half"}, "percent='half': must be one of .*'fraction'"),
        ("numeric", {"thousands": "."}, r"thousands='\.': must be"),
        ("numeric", {"decimal": ""}, "decimal='': must be one mark"),
        ("multiple_choice", {"letters": "ABA"}, "letters='ABA': must be capitals"),
        ("multiple_choice", {"letters": "1234"}, "letters='1234': must be capitals"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_grader(name, **settings)


@pytest.mark.parametrize("name", GRADERS)
def test_the_docs_list_the_settings_and_their_defaults(name):
    row = re.search(rf'^\| `"{name}"` \|.*$', DOCS.read_text(), re.MULTILINE)[0]
    listed = {
        setting: ast.literal_eval(default)
        for setting, default in re.findall(r"`(\w+)=([^`]+)`", row)
    }
    fields = dataclasses.fields(GRADERS[name])
    assert listed == {field.name: field.default for field in fields if field.init}


@pytest.mark.parametrize("name", GRADERS)
def test_an_unknown_extraction_is_refused(name):
    with pytest.raises(
        ValueError, match=f"extraction='box': must be one of {', '.join(EXTRACTORS)}"
    ):
        make_grader(name, extraction="box")


def test_what_is_neither_a_name_nor_a_function_is_refused():
    with pytest.raises(TypeError, match="grader=5: must be a name or a function"):
        make_grader(5)
    with pytest.raises(TypeError, match=r"cache_size: .* no settings but timeout_s; functools.par"):
        make_grader(str.__eq__, timeout_s=1, cache_size=1)


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (True, "correct"),
        (False, "wrong"),
        (1.0, "correct"),
        (0.5, "correct"),
        (0.1, "wrong"),
        (-1, "wrong"),
        (Grade(Verdict.NO_ANSWER), "no_answer"),
        (math.nan, "crashed"),
        (None, "crashed"),
        ("right", "crashed"),
    ],
)
def test_what_a_function_returns_becomes_a_verdict(result, verdict):
    assert make_grader(lambda reply, gold: result)("a", "b").verdict == verdict


def test_a_function_that_raises_is_logged_and_counted(caplog):
    def grade(reply, gold):
        raise ZeroDivisionError("in my grader")

    grader = make_grader(grade)
    assert [grader("a", "b").verdict for _ in range(3)] == [Verdict.CRASHED] * 3
    assert grader.num_crashed == 3
    assert len(caplog.messages) == 3
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(
    ("gold", "reason"),
    [("", "blank"), (" \n", "blank"), ("$ $", "blank"), ("1" * 5000, "5000 characters")],
)
def test_a_gold_that_no_reply_can_meet_is_refused_by_name(gold, reason, caplog):
    assert reason in check_gold(gold)
    assert make_grader("math")(r"\boxed{1}", gold).verdict is Verdict.UNGRADABLE_GOLD
    assert reason in caplog.text


@pytest.mark.parametrize("gold", ["0", r"\frac{1}{2}", "Paris"])
def test_other_golds_are_not(gold):
    assert check_gold(gold) is None


def test_a_function_that_takes_too_long_is_left_behind_and_its_verdict_says_so(caplog):
    until = threading.Event()

    def slow(reply: str, gold: str) -> bool:
        if reply == "slow":
            until.wait(60)
        return reply == gold

    grade = make_grader(slow, timeout_s=0.2)
    assert grade("slow", "1").verdict is Verdict.TIMED_OUT
    assert "took too long" in caplog.text
    until.set()
    assert grade("1", "1").verdict is Verdict.CORRECT


def test_a_functions_own_time_out_is_a_crash():
    def fails(reply: str, gold: str) -> bool:
        raise TimeoutError("no answer from the server")

    assert make_grader(fails, timeout_s=60)("1", "1").verdict is Verdict.CRASHED
    assert make_grader(fails)("1", "1").verdict is Verdict.CRASHED


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan"), float("inf")])
def test_a_functions_time_out_is_positive(timeout_s):
    with pytest.raises(ValueError, match="timeout_s="):
        make_grader(lambda reply, gold: True, timeout_s=timeout_s)
