"""Public cases of other graders, and real gold answers against themselves."""

import gzip
import json
import re
from decimal import Decimal

import pytest
from repository import DATA, ROOT
from sfpo_envs import Verdict, check_gold, make_grader
from sfpo_envs.graders.naming import as_text
from sfpo_envs.graders.pool import equivalent
from sfpo_envs.graders.quantity import read_quantity
from sfpo_envs.graders.sight import rational

BENCHMARKS = (
    "gsm8k_train.jsonl.gz", "gsm8k_test.jsonl", "math500.jsonl", "math_train.jsonl.gz",
    "aime24.jsonl", "aime25.jsonl", "amc.jsonl", "minerva_math.jsonl", "olympiadbench.jsonl",
    "mawps_singleop.jsonl",
)  # fmt: skip


def rows_of(name):
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.split("\n") if line]


def test_other_graders_cases_agree_but_for_those_the_docs_explain():
    """One configuration for all: the answer is searched for in the whole text."""
    grade = make_grader("math", extraction="whole", timeout_s=30)
    cases = rows_of("grader_cases.jsonl")
    disagree = {
        case["id"]
        for case in cases
        if (grade(case["pred"], case["gold"]).verdict is Verdict.CORRECT) != case["expected"]
    }
    docs = (ROOT / "docs" / "graders.md").read_text()
    assert disagree == set(re.findall(r"^\| (g\d{4}) \|", docs, re.MULTILINE))
    assert f"{len(cases) - len(disagree)} of {len(cases)}" in docs
    assert len(cases) - len(disagree) >= 173


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_gold_answer_is_right_by_itself_or_refused_by_name(name):
    grade = make_grader("math", timeout_s=30)
    for row in rows_of(name)[:300]:
        gold = row["answer"]
        expected = Verdict.UNGRADABLE_GOLD if check_gold(gold) else Verdict.CORRECT
        assert grade(rf"Hence \boxed{{{gold}}}.", gold).verdict is expected, gold


@pytest.mark.parametrize("name", ["math500.jsonl", "minerva_math.jsonl", "olympiadbench.jsonl"])
def test_math_verify_takes_a_gold_answer_for_itself(name):
    """Without the comparison as text, which most of the above is decided by."""
    golds = {row["answer"] for row in rows_of(name)}
    values = {read_quantity(gold).value for gold in golds}
    for value in sorted(value for value in values if rational(value) is None)[:300]:
        assert equivalent(as_text(value), as_text(value), 30), value


@pytest.mark.parametrize("extraction", ["boxed", "whole"])
def test_golds_in_e_notation_are_answered_in_every_other(extraction):
    grade = make_grader("math", extraction=extraction, timeout_s=30)
    golds = {row["answer"] for row in rows_of("minerva_math.jsonl")}
    golds = {gold for gold in golds if re.fullmatch(r"-?[0-9.]+e-?[0-9]+", gold)}
    assert len(golds) >= 50
    for gold in golds:
        digits, exponent = gold.split("e")
        plain = f"{Decimal(gold):f}"
        forms = (rf"{digits} \times 10^{{{exponent}}}", rf"{digits} \cdot 10^{{{exponent}}}",
                 f"{digits}E{int(exponent):+d}", plain)  # fmt: skip
        for form in (*forms, *(rf"{form} \text{{ erg}}" for form in forms)):
            reply = rf"Hence \boxed{{{form}}}." if extraction == "boxed" else form
            assert grade(reply, gold).verdict is Verdict.CORRECT, (gold, form)
        for other in (f"{digits}e{int(exponent) + 1}", digits, f"-{forms[0]}", f"1{plain}"):
            reply = rf"Hence \boxed{{{other}}}." if extraction == "boxed" else other
            assert grade(reply, gold).verdict is Verdict.WRONG, (gold, other)


def test_the_blank_golds_of_a_training_set_are_the_ones_refused():
    blank = [row for row in rows_of("math_train.jsonl.gz") if not row["answer"].strip()]
    assert [check_gold(row["answer"]) for row in blank] == ["is blank"] * 2
