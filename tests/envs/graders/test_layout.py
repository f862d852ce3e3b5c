"""What only lays an answer out."""

import pytest
from answers import boxed, check
from sfpo_envs import Verdict

AROUND = [
    r"\boldsymbol{%s}", r"\mathbf{%s}", r"\mathbf{n=%s}", r"{\bf %s}", r"\textbf{%s}", r"\bm{%s}",
    r"\Large %s", r"\underline{%s}", r"\color{red}{%s}", r"{\color{red} %s}", 
    r"\textcolor{red}{%s}",
    r"%s \\", "%s\\ ", "**%s**", "*%s*", "`%s`", "{%s}", r"\(%s\)", r"\[ %s \]",
    r"\begin{aligned} n &= %s \end{aligned}", r"\begin{align*} n &= 1 + 1 \\ &= %s \end{align*}",
]  # fmt: skip


@pytest.mark.parametrize("gold", ["5", r"\frac{3}{4}", r"(1, \frac{\pi}{2})", r"\sqrt{2}-1"])
@pytest.mark.parametrize("around", AROUND)
def test_what_is_around_an_answer_does_not_count(around, gold):
    assert boxed(rf"\boxed{{{around % gold}}}", gold).verdict is Verdict.CORRECT
    assert boxed(rf"\boxed{{{around % '71'}}}", gold).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("(a+b)^2", [r"\bigl(a+b\bigr)^2", r"\Big(a+b\Big)^2"], [r"\bigl(a-b\bigr)^2"]),
        (
            r"(-\infty,0)\cup(1,2)",
            [r"\bigl(-\infty,0\bigr)\bigcup\Bigl(1,2\Bigr)"],
            [r"(-\infty,0)\bigcap(1,2)", r"(-\infty,0)\bigcup(1,3)"],
        ),
        (
            r"\begin{pmatrix}1\\2\end{pmatrix}",
            [
                r"\begin{pmatrix}1\\[4pt]2\end{pmatrix}",
                r"\left(\begin{smallmatrix}1\\2\end{smallmatrix}\right)",
            ],
            [r"\begin{pmatrix}1\\[4pt]3\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"],
        ),
        ("[1,2)", ["{[1,2)}"], ["{[1,2]}"]),
        ("2", [r"\(2\text{ cm}\)"], [r"\(3\text{ cm}\)"]),
        ("-5", ["{-}5", "{-}{5}"], ["{-}6", "{+}5"]),
        ("3/4", [r"\frac{\text{3}}{\text{4}}"], [r"\frac{\text{4}}{\text{3}}"]),
        (r"\text{Friday}", [r"\text{Friday.}", "**Friday**"], [r"\text{Monday.}"]),
        ("52_8", [r"52_{\text{base 8}}"], [r"52_{\text{base 9}}", r"53_{\text{base 8}}"]),
        (r"\mathbf{v}+1", [r"1+\mathbf{v}"], ["1"]),
        ("3, 4", [r"\begin{aligned} x &= 3 \\ y &= 4 \end{aligned}"], ["3"]),
    ],
)
def test_sizes_and_spacing_do_not_count(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    "answer",
    [
        r"\textsf{}",
        "{{}}",
        r"\bf",
        r"\begin{aligned}\end{aligned}",
        r"\color{red}{}",
        r"\pm",
        "** **",
    ],
)
def test_layout_of_nothing_is_no_value(answer):
    assert boxed(rf"\boxed{{{answer}}}", "5").verdict in (Verdict.WRONG, Verdict.NO_ANSWER)


@pytest.mark.parametrize("letter", [r"\text{B. }%s", "B) %s", r"\text{B) }%s", r"\text{(B)}\;%s"])
def test_the_letter_of_a_choice_before_a_value_does_not_count(letter):
    check("3", [letter % 3], [letter % 4])


@pytest.mark.parametrize("mark", [r"%s\checkmark", r"%s \quad\blacksquare", r"\therefore %s"])
def test_marks_of_the_end_do_not_count(mark):
    check("42", [mark % 42], [mark % 41])


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("3:5", [r"3\text{ to }5", "3 to 5", r"3\colon 5", "3{:}5"], ["5 to 3", "3 to 6", "3-5"]),
        (
            "MR=SRMC",
            [r"\text{MR}=\text{SRMC}", r"\mathrm{SRMC} = \mathrm{MR}"],
            [r"\text{MR}=\text{SRAC}"],
        ),
    ],
)
def test_ratios_and_names_in_text_are_those_in_formulas(gold, right, wrong):
    check(gold, right, wrong)
