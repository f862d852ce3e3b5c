"""Words that lead to an answer do not count."""

import pytest
from answers import boxed, whole
from sfpo_envs import Verdict

LEADS = [
    r"\text{The answer is } %s", r"\text{The answer is: }%s", r"\text{Answer: }%s",
    r"\text{So, the final answer is }%s", r"\mathrm{Answer:}\;%s", r"\text{Total: }%s",
    r"\text{Total}: %s", r"\text{The sum of the roots is }%s", r"\textbf{Number of ways: }%s",
    r"\text{The value is equal to }%s", "The answer is %s.", "Answer: %s", r"\text{There are }%s",
    r"\text{Minimum value: } $%s$",
]  # fmt: skip


@pytest.mark.parametrize("grade", [boxed, whole])
@pytest.mark.parametrize("gold", ["5", r"\frac{3}{4}", r"(1, \sqrt{2})", "x+1"])
@pytest.mark.parametrize("lead", LEADS)
def test_what_leads_to_an_answer_does_not_count(lead, gold, grade):
    assert grade(rf"\boxed{{{lead % gold}}}", gold).verdict is Verdict.CORRECT
    assert grade(rf"\boxed{{{lead % '71'}}}", gold).verdict is Verdict.WRONG


@pytest.mark.parametrize("lead", ["about", "approximately", "approx.", "roughly", "It is about"])
def test_an_approximation_may_be_called_one(lead):
    assert boxed(rf"\boxed{{\text{{{lead} }}3.14}}", "3.14").verdict is Verdict.CORRECT
    assert boxed(rf"\boxed{{\text{{{lead} }}3.15}}", "3.14").verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\text{The answer is Alice}", "Alice"),
        (r"\text{The result is: }\text{odd}", r"\text{odd}"),
        (r"\text{The answer is A}", r"\text{(A)}"),
        (r"\text{The answer is 10 km}", r"10\text{ km}"),
        (r"\text{Total: \$18}", r"\$18"),
        ("5", r"\text{Total: }5"),
        (r"\text{The answer is }5", r"\text{Total: }5"),
        (r"\text{total: }5", r"\text{Total: }5"),
    ],
)
def test_words_units_and_golds_may_have_a_lead_too(answer, gold):
    assert boxed(rf"\boxed{{{answer}}}", gold).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\text{The answer is not }5", "5"),
        (r"\text{It isn't true that it is }5", "5"),
        (r"\text{None is }5", "5"),
        (r"\text{at least }5", "5"),
        (r"\text{The minimum is at least }5", "5"),
        (r"\text{more than }5", "5"),
        (r"\text{Case 1: }5", "5"),
        (r"\text{Bob: }5", r"\text{Alice: }5"),
        (r"\text{boys}:\text{girls} = 3:2", "2"),
        (r"\text{The answer is }", "5"),
        (r"\text{Total: }5, \text{rest: }3", "5"),
    ],
)
def test_words_that_say_something_else_do(answer, gold):
    assert boxed(rf"\boxed{{{answer}}}", gold).verdict is Verdict.WRONG
