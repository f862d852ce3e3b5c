"""What is said about an answer, around it."""

import time

import pytest
from answers import whole
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders.prose import only_number, without_marks, without_remarks

FORMS = {"answer_line": "Answer: %s", "tags": "<answer>%s</answer>", "hashes": "#### %s"}


def verdicts(gold, answer):
    return {
        make_grader("math", extraction=extraction)(form % answer, gold).verdict
        for extraction, form in FORMS.items()
    }


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "8",
            ["8. I hope it is correct.", "8 (eight)", "8 (since 5 + 3 = 8)", "8, since 5+3=8",
             "$8$ (the sum of 5 and 3)", "8 dollars. Therefore he has 8 dollars.", "8 ✅", "👉 8",
             "8 — the sum of both", "**8** apples", "8<|im_end|>", "8</s>"],
            ["5 because 6+2=8", "5 (not 8)", "8 (or 9)", "7. 8",
             "8 - or 9 apples", "8 or 9 because of it"],
        ),
        (r"\frac{1}{2}", [r"$\frac{1}{2}$ because of symmetry.", "1/2 (one half)"], ["1/3 (half)"]),
        ("x^2+1", ["$x^2+1$ because it fits"], ["$x^2$ because $x^2+1$ is too much"]),
        (r"5 \pmod{7}", ["5 (mod 7)"], ["5 (mod 8)"]),
        ("5(x+1)", ["5(x+1)"], ["5"]),
    ],
)  # fmt: skip
def test_remarks_behind_an_answer_do_not_count(gold, right, wrong):
    for answers, verdict in ((right, Verdict.CORRECT), (wrong, Verdict.WRONG)):
        for answer in answers:
            assert verdicts(gold, answer) == {verdict}, answer


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "8",
            ["He has 8 apples left.", "8 apples in total", "She pays $8 every day"],
            ["It is not 8 apples", "He has at least 8 apples", "He has half of 8 apples",
             "He has 7 or 8 apples", "It takes 8 times as long", "He has 8 hundred apples",
             "9 is 1 more than 8", "He has 18 apples left", "He has 8.5 apples left"],
        ),
        (
            r"12\text{ km/h}",
            ["He goes 12 km/h on foot", "He walks at 12 km per hour"],
            ["He goes 12 m/s on foot", "He goes 13 km/h on foot"],
        ),
    ],
)  # fmt: skip
def test_the_only_number_of_a_sentence_is_its_answer(gold, right, wrong):
    for answers, verdict in ((right, Verdict.CORRECT), (wrong, Verdict.WRONG)):
        for answer in answers:
            assert verdicts(gold, answer) == {verdict}, answer


@pytest.mark.parametrize("text", ["Paris. It is in France.", "x = 3", "2, 3", "", "B (because)"])
def test_words_may_be_an_answer(text):
    assert without_remarks(text) == text and only_number(text) is None


@pytest.mark.parametrize(
    "piece", [" ", "8 ", "a ", "(", "8 (a", "** ", "8. A ", "<|", "1/", "- a "]
)
def test_long_texts_take_no_time(piece):
    text = piece * (65_536 // len(piece))
    start = time.perf_counter()
    for extraction, form in FORMS.items():
        make_grader("math", extraction=extraction)(form % text, "5")
    without_marks(text)
    without_remarks(text[:512])
    only_number(text[:512])
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    ("reply", "right", "wrong"),
    [
        ("The answer is not 3.", None, "3"),
        ("The answer is not $3$.", None, "3"),
        ("I don't think it is 3.", None, "3"),
        ("The answer is not 3 but 5.", "5", "3"),
        ("The answer is not $3$ but $5$.", "5", "3"),
        ("It is 5, not 3.", "5", "3"),
        ("It is not hard to see that the answer is 3.", "3", "4"),
        ("The answer is 3, not 4 as one may think.", "3", "4"),
        ("x can not be 3, so x is 2", "2", "3"),
    ],
)
def test_what_a_reply_denies_is_not_its_answer(reply, right, wrong):
    assert whole(reply, wrong).verdict is Verdict.WRONG
    assert right is None or whole(reply, right).verdict is Verdict.CORRECT


@pytest.mark.parametrize("reply", ["It is 3 or 4.", "The answer is 3 or 4.", "It must be 3, or 4."])
def test_one_or_another_number_is_neither(reply):
    assert whole(reply, "3, 4").verdict is Verdict.CORRECT
    for one in ("3", "4"):
        assert whole(reply, one).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    "solution",
    [
        "4.5 gallons = 4.5 * 8 pints = <<4.5*8=36>>36 pints",
        "She pays $4.00 + $2.00 = $<<4+2=6.00>>6.00",
        "Greg: 9+2(8)=25 books\nTotal: 32+8+25=<<32+8+25=65>>65 books",
        "That is 50 / 200 * 100% = 25%",
    ],
)
def test_the_last_line_of_a_whole_reply_counts_if_it_begins_with_hashes(solution):
    for last, gold in (("#### 7", "7"), ("####1,234 ", "1234"), ("#### $\\frac{1}{2}$", "0.5")):
        assert whole(f"{solution}\n{last}", gold).verdict is Verdict.CORRECT
        assert whole(f"{solution}\n{last}", "6").verdict is Verdict.WRONG


def test_a_heading_without_text_below_is_no_answer_of_a_whole_reply():
    assert whole("2 + 2 = 4, so it is 4.\n#### Conclusion", "4").verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "2400, 1350, 864",
            [
                "Therefore the possible areas are 2400, 1350, and 864.",
                "The answers are 864, 1350 and 2400, as wanted.",
                "The three areas that we get are: 1350, 864, 2400",
            ],
            ["Therefore the possible areas are 2400, 1350, and 865.", "They are 2400 and 1350 cm."],
        ),
        (
            "5",
            ["Of the 3, 4, and 5 apples he took 5.", "Its sides were 3, 4 and 5."],
            ["Its sides are 3, 4 and 5."],
        ),
        (
            r"\frac{58}{3}",
            [
                r"This gives $3x = 58$ or $x = \frac{58}{3}$.",
                r"It is $\frac{116}{6}$ or $\frac{58}{3}$.",
            ],
            [r"This gives $x = 58$ or $x = \frac{58}{3}$.", r"It is $58$ or $\frac{58}{3}$."],
        ),
    ],
)
def test_lists_and_other_forms_of_an_answer_in_a_whole_reply(gold, right, wrong):
    for replies, verdict in ((right, Verdict.CORRECT), (wrong, Verdict.WRONG)):
        for reply in replies:
            assert whole(reply, gold).verdict is verdict, reply
