"""What was copied from its problem is no answer; what was worked out is, or is a value there."""

import pytest
from sfpo_envs import make_grader
from sfpo_envs.graders.copied import is_copied

BINOMIAL = r"Compute $\dbinom{8}{4}$."

COPIED = [
    (BINOMIAL, "70", r"\dbinom{8}{4}"),
    ("Evaluate $99^2+99+1$ in your head.", "9901", "99^2+99+1"),
    (r"Simplify $\sqrt{242}$.", r"11\sqrt2", r"\sqrt{242}"),
    (r"Simplify $\frac{84}{144}.$", r"\frac{7}{12}", r"\frac{84}{144}"),
    (r"Express $0.4\overline5$ as a fraction.", r"\frac{41}{90}", r"0.4\overline5"),
    (r"Compute \[\begin{vmatrix} 7 & 3 \\ -1 & 2 \end{vmatrix}.\]", "17",
     r"\begin{vmatrix} 7 & 3 \\ -1 & 2 \end{vmatrix}"),
    ("Factor $x^2-1$ completely.", "(x-1)(x+1)", "x^2-1"),
    ("Solve $x+2=5$.", "x=3", "x+2=5"),
    ("What is $2(3)$?", "6", "2(3)"),
    ("What is 1/2 + 1/4?", r"\frac{3}{4}", "1/2 + 1/4"),
    ("What is 1/2 + (3+4)/5?", "1.9", r"\frac12+\frac{3+4}{5}"),
    ("If $P(A)=0.5$ and $P(B)=0.2$, what is $0.5+0.2$?", "0.7", "0.5+0.2"),
    (r"Find $x$ if $x=\frac{9^2-9}{9}$.", "8", r"\frac{9^2-9}{9}"),
    (r"Find $x$ if $x=\frac{9^2-9}{9}$.", "8", r"x = \frac{9^2-9}{9}"),
    (r"Add $\gcd(12,18)$ to 0.", "6", r"\gcd (12, 18)"),
    ("What are $2^3$ and $3^2$?", "8, 9", "2^3, 3^2"),
    (r"Let \begin{align*} a &= 2^3, \\ b &= 3a. \end{align*} What is $a$?", "8", "2^3"),
    ("Was ist $√9+1$?", "4", r"\sqrt{9}+1"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "gold", "answer"), COPIED)
def test_an_expression_of_the_problem_is_copied_though_it_is_equal(problem, gold, answer):
    assert is_copied(answer, problem, gold)


@pytest.mark.parametrize(
    "answer",
    [
        r"\binom{8}{4}",
        r"\binom84",
        r"\tbinom{8} {4}",
        r"$\dbinom{8}{4}$",
        r"\[ \dbinom{8}{4} \]",
        r"\dbinom{8}{4} = ?",
        r"\dbinom{8}{4} =",
        r"\dbinom{8}{4}.",
        r"\displaystyle \binom{ 8 }{ 4 }",
        r"{\dbinom{{8}}{4}}",
        r"\left(\dbinom{8}{4}\right)",
        r"((\dbinom{8}{4}))",
        r"\dbinom{8}{4} = \dbinom{8}{4}",
        r"x = \dbinom{8}{4}",
        r"\dbinom{8}{4}\text{ ways}",
        r"\,\dbinom{8}{4}\;",
    ],
)
def test_a_copy_in_another_layout_is_one(answer):
    assert is_copied(answer, BINOMIAL, "70")
    assert is_copied(r"\dbinom{8}{4}", f"Compute ${answer.strip('$')}$", "70")


def test_signs_that_mean_the_same_are_spelled_alike():
    problem = r"Compute $3 \cdot 1{,}000 \div \left|-4\right| + 2^{10}$"
    assert is_copied(r"3 \times 1,000 / |-4| + 2^10", problem, "1774")
    assert is_copied(r"3*1000/\lvert -4 \rvert + 2**{10}", problem, "1774")


@pytest.mark.parametrize(
    ("problem", "gold", "answer"),
    [
        # worked out, or in part
        (BINOMIAL, "70", "70"),
        (BINOMIAL, "70", r"\dbinom{8}{4} = 70"),
        (BINOMIAL, "70", r"\frac{8!}{4!4!}"),
        ("Evaluate $(1+2i)6-3i$.", "6+9i", "6+12i-3i"),
        # the gold answer stands in the problem
        (r"What is $\sqrt{53}$ in simplest form?", r"\sqrt{53}", r"\sqrt{53}"),
        ("Which is greater, $2^{10}$ or $3^7$?", "3^7", "3^{7}"),
        ("Which is greater, $x+1$ or $x$?", "y = x+1", "x + 1"),
        (r"Which is it, $\dfrac{\sqrt3}{2}$ or 1?", r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}2"),
        # a number
        ("Of $6$ and $-35$, which is odd?", "-35.0", "-35"),
        (r"A chance of $\frac{1}{2}$. What is it?", "0.5", r"\frac{1}{2}"),
        ("A chance of 1/2. What is it?", "0.5", "1/2"),
        (r"It has $4\frac{1}{2}$ m.", "4.5", r"4\frac{1}{2}"),
        (r"It has $3 \times 10^{8}$ m/s.", "3e8", r"3 \times 10^{8}"),
        ("For which grade, the $12^{\\mathrm{th}}$?", "12", "12^{\\mathrm{th}}"),
        (r"An angle of $40^{\circ}$.", "40", r"40^\circ"),
        # a quantity
        ("At 60 km/h, or at 50 km/h?", "60.0", "60 km/h"),
        (r"At $5 \mathrm{m}/\mathrm{s}^2$?", "5.0", r"5\,\mathrm{m}/\mathrm{s}^2"),
        (r"It is $12\text{ cm}^2$, or not?", r"\frac{24}{2}", r"12\text{ cm}^2"),
        # names, choices
        (r"The shape $z = c$? (A) Line (C) Plane", r"\text{(C)}", "C"),
        ("Which is 64? (A) $2^5$ (B) $2^6$", "B", r"\text{(B)}"),
        ("Which is 64? (A) $2^5$ (B) $2^6$", "(B) 2^6", "2^{6}"),
        ("Which is 64? (A) $2^5$ (B) $2^6$", "2^6", r"\textbf{(B)}\ 2^6"),
        ("Which is 64? (A) 2^5 (B) 2^6", "(B) 2^6", "(B) 2^6"),
        (
            r"It is: $\textbf{(A)}\ 1\qquad \textbf{(B)}\ 2^{-1/2}$",
            r"\frac{\sqrt{2}}{2}",
            "2^{-1/2}",
        ),
        ("It is\nA. $1$\nB. $2^{-1/2}$", r"\frac{\sqrt{2}}{2}", "2^{-1/2}"),
        (r"Is it $\sqrt{2}/2$?", r"\frac{\sqrt{2}}{2}", r"\sqrt{2}/2"),
        (r"Is it $2\pi r$?", r"2r\pi", r"2\pi r"),
        # points, intervals, sets
        ("Which is farthest, $(0,5)$ or $(6-0,1)$?", "(6,1)", "(6-0,1)"),
        (r"Is it $[0, \frac{4}{2}]$?", "[0,2]", r"[0, \frac{4}{2}]"),
        (r"Is it $\{1, 1+1\}$?", r"\{1,2\}", r"\{1, 1+1\}"),
        # only a part of what stands there
        ("Simplify $2x+1+x$.", "1+3x", "x+1"),
        (r"Compute $\frac{12}{3}$.", "4", r"\frac{1}{23}"),
        # an equation that holds the gold answer
        (r"As $n=\sqrt{16}=4.00$ holds, what is $n$?", "4", r"n=\sqrt{16}=4.00"),
        ("Let $a + b + c = 0$. Find $a+b+c+0$.", "0", "a + b + c = 0"),
    ],
)
def test_what_is_worked_out_or_stands_there_as_a_value_is_an_answer(problem, gold, answer):
    assert not is_copied(answer, problem, gold)


@pytest.mark.parametrize(
    "text", ["", "}{", "{" * 500, r"\frac", "$", "\\", ")))", "(" * 500, "=", "^"]
)
def test_any_text_can_be_asked_about(text):
    assert not is_copied(text, "What is $1+1$?", "2")
    assert not is_copied("2", text, "2")
    assert not is_copied("1+1", text, text)


def test_the_math_grader_finds_the_answer_of_a_whole_reply_first():
    grader = make_grader("math", extraction="whole")
    reply = r"They are $\dbinom{8}{4}$."
    assert grader.copies(BINOMIAL, "70", reply)
    assert not grader.copies(BINOMIAL, "70", reply + " So it is $70$.")
