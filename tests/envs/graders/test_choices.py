"""The letter that a reply chooses, told from those it only mentions."""

# ruff: noqa: RUF001  (Chinese has punctuation of its own)

import time

import pytest
from sfpo_envs import Verdict, make_grader

grade = make_grader("multiple_choice")


def chosen(reply):
    return grade(reply, "B").extracted


@pytest.mark.parametrize(
    "reply",
    [
        "I choose B.",
        "I would go with option B.",
        "I'll pick (B).",
        "I'd say it's B.",
        "We choose B, as it is odd.",
        "I chose B over A.",
        "I am going with B.",
        "I'm not certain, but I would choose B.",
        "Let's go with **B**.",
        "So I select option b.",
        "My best guess is B.",
        "The correct option is B.",
        "The right answer is b",
        "The best option is therefore B.",
        "My final answer is B.",
        "Correct answer: B",
        "Option: B",
        "Ans: B",
        "Answer - B",
        "The answer to this question is B.",
        "The answer is, therefore, option B.",
        "The answer must be B.",
        "The answer is probably B.",
        "The answer is the letter B.",
        "The answer is B Paris",
        "The answer is B: a train",
        "The answer is B) 3.5 m/s",
        "The answer is\n\n(B) 12",
        "Answer:B",
        "Answer:\n**B. Paris**",
        "B is correct.",
        "Option (b) is correct.",
        "So option B is the right choice.",
        "(B) must be the best answer.",
        "That makes B the correct answer.",
        "So x = 42, which corresponds to option B.",
        "This leaves only (B).",
        "Therefore, B.",
        "Thus: (B).",
        "It should be B.",
        "Long thoughts on A.\n\nB",
        "A is wrong, C is too.\n\n**B) Paris**",
        "B because it is odd",
        "B - it is odd",
    ],
)
def test_what_announces_a_letter_chooses_it(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is not A, it is B.",
        "The answer is not A but B.",
        "It isn't A, it's B.",
        "It cannot be (A); it must be (B).",
        "Not A; rather, B.",
        "The answer is neither A nor C, so it is B.",
        "The answer is B, not A.",
        "The answer is B, A is wrong.",
        "The answer is B. Option A is wrong.",
        "I initially chose A, but the answer is B.",
        "If the answer were A, x would be 5. So the answer is B.",
        "The wrong answer is A, the right one is B.",
        "Many might think the answer is A. The answer is B.",
        "The answer is A. Wait, no: it's B.",
        "<think>Is it A? Maybe the answer is A or C.</think> The answer is B.",
    ],
)
def test_a_letter_that_is_taken_back_is_not_chosen(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize(
    "letter",
    [
        '"B"',
        "'B'",
        "\u201cB\u201d",
        "\u2018B\u2019",
        "`B`",
        "(B)",
        "[B]",
        "{B}",
        "<B>",
        "[[B]]",
        "(b)",
        '"b"',
        "**B**",
        "*B*",
        "__B__",
        "_B_",
        "**(B)**",
        "**B.**",
        "**B) Paris**",
        '"B. Paris"',
        "\u2705 **B**",
        "$B$",
        r"\(B\)",
        r"\[B\]",
        r"\text{B}",
        r"$\text{(B)}$",
        r"$\mathbf{B}$",
        r"\textbf{(B) }42",
        r"\boxed{B}",
        r"\boxed B",
        r"\fbox{B}",
        r"\boxed{\textbf{(B)}}",
        r"$\boxed{\textbf{(B)}\ 42}$",
        r"\boxed{\text{Option B}}",
        r"\boxed{B. 42}",
        r"$$\boxed{\mathrm{B}}$$",
        r"\boxed{\text{B}.}",
        "<b>B</b>",
        "<answer>B</answer>",
        "<answer>\n(B) Paris\n</answer>",
        "<choice>B</choice>",
        "B<|eot_id|>",
    ],
)
def test_what_surrounds_a_letter_is_no_part_of_it(letter):
    assert chosen(letter) == "B"
    assert chosen(f"The answer is {letter}") == "B"
    assert chosen(f"**Answer:** {letter}") == "B"
    assert chosen(f"A is wrong.\n\n{letter}\n") == "B"


@pytest.mark.parametrize(
    "reply",
    [
        r"So it is $\boxed{B}$, as A is odd.",
        r"<answer>B</answer> A is odd.",
        '{"answer": "B"}',
        "{'reason': 'A is odd', 'answer': 'B'}",
        r"Put it in \boxed{}: \boxed{\text{(B)}}. A is odd.",
    ],
)
def test_a_box_a_tag_or_a_key_announces_what_it_holds(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize(
    "reply",
    [
        # The article, the pronoun and names.
        "A train leaves at 5.",
        "The answer is a train",
        "The answer is A train",
        "Answer: A rectangle has four sides",
        "It is a dog.",
        "It is A dog.",
        "D'Artagnan",
        "The answer is D'Artagnan",
        "Vitamin C is good",
        "Person A is right.",
        "I choose A people",
        "We choose B balls from the urn",
        "I'm a C programmer",
        "Answer: B-52",
        # Formulas.
        "E = mc^2",
        "Answer: E = mc^2",
        "Answer: A + B",
        "Let's choose A = 5",
        "Let $A$ be the area.",
        "P(A) = 0.5 and P(B) = 0.2",
        "f(A) is odd",
        r"\boxed{A + B}",
        # More than one, or doubt.
        "It could be A or B.",
        "The answer is A or B.",
        "The answer is either A or B.",
        "Answer: A, B",
        "Answer: A/B",
        "The answer is A, B and C.",
        "A and B are correct.",
        "A or B is correct.",
        "Both (A) and (B) are true",
        "I am torn between (A) and (B).",
        "Maybe A, maybe B.",
        "The answer might be A.",
        "Is the answer A?",
        "The answer is A?",
        "Could it be (A)?",
        "I'm not sure the answer is A.",
        "I'm not sure, but A is possible",
        "If the answer is A, then x = 5.",
        "Suppose the answer is A.",
        "Check whether A is correct.",
        "If I choose A, I lose.",
        # What is ruled out.
        "Option A is wrong.",
        "(A) is wrong.",
        "Option (A) is wrong.",
        "A is incorrect.",
        "A is not correct.",
        "The answer is not A.",
        "The answer isn't A.",
        "The answer cannot be A.",
        "I would not choose A.",
        "I don't think the answer is A.",
        "Neither A nor B is correct.",
        "The wrong answer is A.",
        "The incorrect option is A.",
        "This does not match option A.",
        "We can rule out (A).",
        # The choices, repeated.
        "A) 1\nB) 2\nC) 3\nD) 4",
        "A. 1\nB. 2\n\nI cannot decide.",
        "(A) 1 (B) 2 (C) 3 (D) 4. I am not sure.",
        "**A.** 1\n**B.** 2",
        # Nothing.
        "Answer: None of the above",
        "The answer is 42.",
        r"\boxed{42}",
        r"\boxed{}",
        "",
    ],
)
def test_a_letter_that_is_only_mentioned_is_not_chosen(reply):
    assert chosen(reply) is None


@pytest.mark.parametrize("reply", ["A", "A.", "(a)", "Answer: A", "The answer is A.", "It is A."])
def test_the_article_is_a_letter_where_nothing_follows_it(reply):
    assert chosen(reply) == "A"


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("I choose B.", "B"),
        ("I choose I.", "I"),
        ("The answer is (I)", "I"),
        ("I am sure it is J.", "J"),
        ("Answer: I don't know", None),
        ("Answer: I think so", None),
    ],
)
def test_the_pronoun_is_told_from_the_letter(reply, letter):
    grade = make_grader("multiple_choice", letters="ABCDEFGHIJ")
    assert grade(reply, "B").extracted == letter


@pytest.mark.parametrize("gold", ["B", "(b)", "B.", r"$\textbf{(B)}$", '"B"', "**B**", "Option B"])
def test_a_gold_letter_may_be_surrounded_too(gold):
    assert grade("The answer is B", gold).verdict == "correct"
    assert grade("The answer is C", gold).verdict == "wrong"


@pytest.mark.parametrize(
    "unit",
    [
        "A ",
        "(A) ",
        "((A",
        '"',
        '"A',
        "**",
        "{",
        r"\boxed{A",
        "<answer>",
        "<a",
        "answer ",
        "answer: ",
        "answer, so, ",
        "the answer is so, so, ",
        "option ",
        "the option is ",
        "A or ",
        ", A",
        "A.\n",
        "I ",
        "I will ",
        "I choose ",
        "not ",
        "not A but ",
        "it is ",
        "\n",
        " ",
        " \n",
        "A is the ",
        "_A",
    ],
)
def test_a_choice_is_found_in_linear_time(unit):
    text = ("The answer is " + unit * 65_536)[:65_536]
    started = time.perf_counter()
    grade(text, "B")
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "reply",
    [
        "答案是B。",
        "答案：B",
        "故选B。",
        "因此，正确答案为（B）。",
        "所以选择Ｂ",
        "所以选 B，因为 A 不对。",
        "選A不對，應選B。",
        "最终答案：**B**",
        "不选A，选B。",
        r"答案是\boxed{B}",
    ],
)
def test_a_letter_may_be_announced_in_chinese(reply):
    assert chosen(reply) == "B"


@pytest.mark.parametrize("reply", ["不选B", "答案不是B", "B选项是错的", "选A还是选B？"])
def test_what_is_refused_in_chinese_is_not_chosen(reply):
    assert chosen(reply) != "B"


@pytest.mark.parametrize(
    "reply",
    [
        r"\boxed{B \text{ or } C}", r"\boxed{\text{B} \text{ and } \text{C}}",
        r"\boxed{(B) \text{ or } (C)}",
        r"\boxed{B;C}", r"\boxed{B\quad C}", "The answer is B (or C).", "Answer: B or maybe C",
        "The answer is B, or perhaps C.", "The answer is B; possibly C", r"\boxed{A} or \boxed{B}",
        "(B) (C)",
    ],
)  # fmt: skip
def test_several_letters_are_no_choice_whatever_joins_them(reply):
    assert grade(reply, "B").verdict is Verdict.NO_ANSWER


@pytest.mark.parametrize(
    "reply",
    [
        "La respuesta correcta es B.", "La r\u00e9ponse est B.", "Die richtige Antwort ist B.",
        "Respuesta: B", "\u041e\u0442\u0432\u0435\u0442: B", "\uc815\ub2f5: B",
        "\u7b54\u3048\u306fB",
    ],
)  # fmt: skip
def test_other_languages_announce_a_letter_too(reply):
    assert grade(reply, "B").verdict is Verdict.CORRECT
    assert grade(reply, "A").verdict is Verdict.WRONG


def test_a_letter_alone_on_the_first_line_is_the_choice():
    assert (
        grade("B\n\nExplanation: A is wrong, as it is too small.", "B").verdict is Verdict.CORRECT
    )
    assert grade("A\nB\nC\n are what there is", "A").verdict is not Verdict.CORRECT
