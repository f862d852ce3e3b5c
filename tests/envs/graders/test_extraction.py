"""Finding the answer in a reply."""

import time

import pytest
from sfpo_envs import Verdict, make_grader
from sfpo_envs.graders.extraction import (
    EXTRACTORS,
    after_hashes,
    answer_line,
    last_boxed,
    last_tagged,
    whole,
)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} wait, \boxed{ 2 }", "2"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"} stray { \boxed {7} {", "7"),
        (r"$\boxed{x}$ and \mbox{y}", "x"),
        (r"\boxed{3", None),
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        ("42", None),
        ("", None),
    ],
)
def test_the_last_balanced_box_counts(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    "last",
    [
        r"\boxed{}",
        r"\boxed{ }",
        r"\fbox{}",
        r"\boxed{$$}",
        r"\boxed{\text{}}",
        r"\boxed{\boxed{}}",
        r"\boxed{\quad}",
        r"\boxed{\ldots}",
        r"\boxed{...}",
        r"\boxed{?}",
        r"\boxed{\mathrm{ }\,}",
        r"\boxed{3",
        r"\boxed",
        r"\boxed notation",
        r"\boxed (see above)",
    ],
)
def test_a_last_box_that_holds_nothing_counts_for_nothing(last):
    assert last_boxed(rf"It is $\boxed{{42}}$. Put in {last}.") == "42"
    assert last_boxed(rf"Put in {last}.") is None


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\fbox{42}", "42"),
        (r"\fbox {\frac{1}{2}} and \mbox{3}", r"\frac{1}{2}"),
        (r"\boxed{\fbox{3}}", "3"),
        (r"\framebox{4} or \framebox[2cm][c]{5}", "5"),
        (r"\boxed{1} or \fbox{2}", "2"),
        (r"x = 5 \\boxed{5}", "5"),
        (r"x = 5 \\\boxed{5}", "5"),
    ],
)
def test_other_boxes_are_boxes(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed 42", "42"),
        (r"$\boxed 42$.", "42"),
        (r"So it is \boxed 42. Done", "42"),
        (r"\boxed 1,234, and $x$ is", "1,234"),
        (r"\boxed -5 as", "-5"),
        (r"\boxed .5", ".5"),
        (r"\boxed\frac12", r"\frac12"),
        (r"$\boxed \frac{1}{2}$", r"\frac{1}{2}"),
        (r"$\boxed x^2+1$", "x^2+1"),
        (r"$\boxed x = 5$", "x = 5"),
        (r"$\boxed \pi r^2$", r"\pi r^2"),
        (r"\boxed 50\% of it", r"50\%"),
        (r"\boxed \$5", r"\$5"),
        (r"\boxed $5$", "5"),
        (r"\boxed (1, 2)", "(1, 2)"),
        (r"\boxed\{1, 2\}", r"\{1, 2\}"),
        (r"\boxed 12 cm", "12"),
        (r"\boxed B.", "B"),
        (r"\boxed \text{New York}", r"\text{New York}"),
        (r"\boxed{1} and \boxed 2", "2"),
        (r"\boxed 1 and \boxed{2}", "2"),
        (r"\boxed a number", None),
    ],
)
def test_a_box_without_braces_ends_where_words_begin(text, content):
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So.\nAnswer: 42", "42"),
        ("Answer: 1\nNo.\nanswer :  $x^2$ \nDone.", "$x^2$"),
        ("**Answer:** 7", "7"),
        ("**Answer**: **7**", "7"),
        (r"Answer: $\boxed{3}$.", "3"),
        ("Answer: `x`, no: __Answer__: _7_", "7"),
        ("Answer: x**2", "x**2"),
        (r"Final Answer: \(42\)", "42"),
        (r"Answer: \[ x = 5 \].", "x = 5"),
        (r"Answer: \(a\) or \(b\)", r"\(a\) or \(b\)"),
        ("Answer: $$5$$ or $$6$$", "$$5$$ or $$6$$"),
        ("Answer\uff1a 7", "7"),
        ("Answer: 3 Answer: **4**.", "4"),
        ("multianswer: 3", None),
        ("The answer is 5", None),
    ],
)
def test_the_last_answer_line_counts(text, answer):
    assert answer_line(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer:\n5", "5"),
        ("Answer:\r\n42\r\n", "42"),
        ("**Answer:**\n\n**42**\n", "42"),
        ("**Final Answer**\n\n**Answer**:\n```\n42\n```", "42"),
        ("Answer:\n\n$\\boxed{3}$", "3"),
        ("**Final Answer**:\n\\[\n\\boxed{42}\n\\]", "42"),
        ("Answer:\n$$\nx = 2\n$$\nDone.", "x = 2"),
        ("Answer:\n\\[\n(1,\n2)\n\\]", "(1,\n2)"),
    ],
)
def test_an_answer_may_begin_on_the_next_line(text, answer):
    assert answer_line(text) == answer


@pytest.mark.parametrize(
    "last", ["Answer:", "**Answer:** \n\n", "Answer: \\boxed{}", "Answer: ..."]
)
def test_a_last_answer_line_that_holds_nothing_counts_for_nothing(last):
    assert answer_line(f"Answer: 42\nSo.\n{last}") == "42"
    assert answer_line(last) is None


@pytest.mark.parametrize(
    "text",
    [
        "2 + 3 = 5 #### 5",
        "#### **5**",
        "####5",
        "#### $\\boxed{5}$ is it",
        "##### 5\n",
        "#### 5\n##",
        "#### Answer: 5",
        "#### **Final Answer:** 5",
        "#### Result: \\(5\\)",
        "#### 5\n####\n#### ...",
    ],
)
def test_what_follows_the_hashes_has_no_markup(text):
    assert after_hashes(text) == "5"


HEADINGS = [
    "Step 2",
    "**Step 2: Add the numbers**",
    "Step 2: 3 + 4 = 7",
    "Solution",
    "Final Answer",
    "Final Answer:",
    "Conclusion",
    "Case B: $x > 0$",
    "Explanation",
    "1. Compute the sum",
    "2) **Solve for x**",
    "\u2705 Verification",
    "Step-by-step solution",
    "Total number of apples:",
    "Alternative method",
]
WITH_TEXT = ["Finding the total", "Let's check", "Now we add $3$ and $4$", "(a) Find the area"]
WITH_TEXT += ["\u7b2c\u4e00\u6b65", "II. Setup"]


@pytest.mark.parametrize("heading", HEADINGS + [f"{each}\n3 + 4 = 7" for each in WITH_TEXT])
def test_a_heading_is_no_answer(heading):
    assert after_hashes(f"#### {heading}") is None
    assert after_hashes(f"#### 42\n\n#### {heading}\nSo it is.") == "42"
    assert after_hashes(f"#### {heading}\nSo it is.\n#### 42") == "42"


@pytest.mark.parametrize(
    "answer",
    [
        "-5",
        "1,234",
        "$18",
        "3/4",
        r"$\frac{1}{2}$",
        r"\frac{1}{2}",
        "x = 5",
        "pi/2",
        "sqrt(2)",
        "(B)",
        "B",
        "B. Paris",
        "42 apples",
        "50%",
        "2nd",
        "12:30 pm",
        "f(x) = 2",
    ],
)
def test_a_value_is_an_answer_whatever_is_below_it(answer):
    assert after_hashes(f"So.\n#### {answer}\n\n#### Check\nIt is right.") == answer
    assert after_hashes(f"So.\n#### {answer}\nIt is right.") == answer


@pytest.mark.parametrize("answer", ["Paris", "New York", "Yes", "ln 2", "None of the above"])
def test_words_are_an_answer_if_no_text_is_below_them(answer):
    assert after_hashes(f"So.\n#### {answer}\n") == answer
    assert after_hashes(f"#### {answer}\n---\n#### Check\nIt is right.") == answer
    assert after_hashes(f"So it is #### {answer}\nAnd more.") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>x</think> <answer> 42 </answer>", "42"),
        ("<answer>1</answer> or <answer>\n**2**\n</answer>.", "2"),
        (r"<answer>It is $\boxed{7}$.</answer>", "7"),
        ("<ANSWER>5</Answer>", "5"),
        ("<answer><answer>5</answer></answer>", "5"),
        ("<answer>5</answer> more</answer>", "5"),
        ("<answer>5</answer> <answer>6", "5"),
        ("<answer>5", None),
        ("5</answer>", None),
        ("5", None),
    ],
)
def test_the_last_pair_of_tags_counts(text, answer):
    assert last_tagged(text) == answer


@pytest.mark.parametrize("held", ["", " ", "\n", "$$", r"\boxed{}", "...", r"\text{ }"])
def test_a_last_pair_of_tags_that_holds_nothing_counts_for_nothing(held):
    assert last_tagged(f"<answer>42</answer> <answer>{held}</answer>") == "42"
    assert last_tagged(f"<answer>{held}</answer>") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [("2 + 3 = 5\n#### 5", "5"), ("#### 1\n#### 1,234 \nx", "1,234"), ("#### ", None), ("5", None)],
)
def test_what_follows_the_hashes_counts(text, answer):
    assert after_hashes(text) == answer


LEADS = ["The answer is 18.", "Final answer: 18", "So, the total is **18**", "Total: 18"]
LEADS += ["The total number of apples is $18$.", r"The value of $x$ is \(18\)."]


@pytest.mark.parametrize("sentence", LEADS)
def test_words_that_lead_to_the_answer_are_no_part_of_it(sentence):
    found = [
        last_tagged(f"<answer>{sentence}</answer>"),
        after_hashes(f"#### {sentence}"),
        answer_line(f"Answer: {sentence}"),
    ]
    assert {(answer or "").strip("$.") for answer in found} == {"18"}


@pytest.mark.parametrize("words", ["The answer is not 5", "There are 5 apples", "f(x) = 2"])
def test_other_words_are_part_of_the_answer(words):
    assert last_tagged(f"<answer>{words}</answer>") == after_hashes(f"#### {words}") == words


def test_the_whole_reply_counts():
    assert whole(" a\nb ") == "a\nb"
    assert whole(" \n") is None


@pytest.mark.parametrize(
    "unit",
    [
        r"\boxed{",
        "{",
        "}",
        "1",
        ",",
        "1,",
        "-",
        "\\",
        r"\boxed ",
        "1/",
        "#",
        "answer",
        "answer:",
        "answer *",
        " ",
        "answer:\n",
        "answer: $$",
        r"answer: \[",
        "#### ",
        "#### a\n",
        "####\n# ",
        "<answer>",
        "</answer>",
        "<answer>.",
        r"\fbox{",
        r"\boxed{}",
        r"\boxed 1",
        r"\boxed -{",
        r"\boxed{.",
        "1e1",
        "10^",
        "1 ",
        "1{,}000",
        r"\frac{1}",
        r"1\frac{1}{",
        r"\text{",
        "**",
        "``",
        "\n",
        "\u200b",
        "\ud800",
    ],
)
def test_extraction_takes_linear_time(unit):
    nested = unit * 30_000 + "}" * 10_000
    started = time.perf_counter()
    for extract in EXTRACTORS.values():
        for text in (unit * 200_000, r"answer: \boxed 1" + nested):
            extract(text)
    assert time.perf_counter() - started < 4


@pytest.mark.parametrize(
    "line",
    [
        "Respuesta: 3",
        "R\u00e9ponse : 3",
        "\u7b54\u6848\uff1a3",
        "\u041e\u0442\u0432\u0435\u0442: 3",
        "\u6240\u4ee5\u7b54\u6848\u662f3",
    ],
)
def test_other_languages_announce_an_answer_too(line):
    assert answer_line(f"1 + 2\n{line}") == "3"
    assert answer_line(f"Answer: 4\n{line}") == "3"
    assert make_grader("math", extraction="whole")(f"{line}\u3002", "3").verdict is Verdict.CORRECT
    # "This answer is wrong" announces none.
    assert answer_line("Answer: 3\n\u8fd9\u4e2a\u7b54\u6848\u662f\u9519\u7684") == "3"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The solutions are $\boxed{3}$ and $\boxed{4}$.", "3, 4"),
        (r"$x=\boxed{3}$ or $x=\boxed{4}$", "3, 4"),
        (r"$\boxed{1}$, $\boxed{2}$, and $\boxed{3}$", "1, 2, 3"),
        (r"\(x_1 = \boxed{3}\) and \(x_2 = \boxed{4}\)", "3, 4"),
        (r"\boxed{3}, \boxed{3}", "3"),
        (r"\boxed{0.5} or \boxed{\frac{1}{2}}", r"\frac{1}{2}"),  # one answer twice
        (r"$a=\boxed{3}$ and $b=\boxed{4}$", "4"),
        (r"\boxed{3}. Wait, and \boxed{4}", "4"),
        (r"\boxed{3}" + "\n\n" + r"and \boxed{4}", "4"),
        (r"\boxed{3} and \boxed{}", "3"),
        (r"\boxed{3} and \boxed 4", "4"),
    ],
)
def test_boxes_that_are_joined_are_one_list(text, answer):
    assert last_boxed(text) == answer


@pytest.mark.parametrize("piece", [r"\boxed{3}, ", r"\boxed{3} and ", r"\boxed{", "x = ", "$ "])
def test_many_boxes_take_no_time(piece):
    text = piece * (65_536 // len(piece)) + r"\boxed{4}"
    start = time.perf_counter()
    last_boxed(text)
    assert time.perf_counter() - start < 1
