"""The quicker LaTeX parser of the grader's workers gives what math-verify's own gives."""

import pytest
import sympy
from latex2sympy2_extended import latex2sympy2
from math_verify import parse
from math_verify import parser as math_verify_parser
from sfpo_envs.graders import _worker
from sfpo_envs.graders._worker import _compare_numbers

TEXTS = [
    r"\frac{14\sqrt{7}}{91}",
    r"-\dfrac{3\pi}{12} + 0.5",
    "007",
    "1,234,567.50",
    "10^{-12}",
    r"3\times 10^{8}",
    r"45\%",
    r"2\frac{1}{3}",
    r"(x+1)^2 - 2xy",
    r"x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}",
    r"x \in (-\infty, 2] \cup [3, \infty)",
    r"1 < x \le 2",
    r"\{1, 2, \sqrt{3}\}",
    r"(1, 2, 3)",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    r"\sin^2 x + \cos(2x)",
    r"\log_2 8 + \ln e^3",
    r"\int_0^1 x^2 dx",
    r"\sum_{k=1}^{10} k^2",
    r"\frac{d}{dx} x^3",
    r"\lim_{x \to 0} \frac{\sin x}{x}",
    r"\binom{5}{2} + 5!",
    r"|x - 3| + \lfloor 2.5 \rfloor",
    r"2 + 3i",
    r"a_{12} + \alpha_1",
    r"f(x) = 2x",
    r"90^\circ",
    r"6\text{ cm}",
    "٣",  # a digit that is none of ASCII
    "²",
    r"\frac{1}{",
    r"1 + + \sqrt",
    "x ? y",
]


@pytest.fixture
def quick(monkeypatch):
    """`quick(text)`: what a worker parses; math-verify itself is as ever afterwards."""
    stock = latex2sympy2._Latex2Sympy

    def parse_quick(text):
        with monkeypatch.context() as patch:
            patch.setattr(latex2sympy2, "_Latex2Sympy", stock)  # put back at the end
            _worker._quicken_latex()
            return tree(text)

    return parse_quick


def tree(text):
    """What is parsed, each node of it, or the error."""
    for cache in (math_verify_parser.parse_latex_cached, math_verify_parser.extract_latex):
        cache.cache_clear()
    return [
        found if isinstance(found, str) else sympy.srepr(found)
        for found in parse(text, parsing_timeout=None, raise_on_error=True)
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_gives_the_same_tree(text, quick):
    boxed = rf"\boxed{{{text}}}"
    assert quick(boxed) == tree(boxed)


def test_integers_are_not_read_by_the_parser_of_python(quick, monkeypatch):
    """Or the test above would not show the quick way."""
    monkeypatch.setattr(sympy.Number, "__new__", None)
    assert quick(r"\boxed{\frac{12}{3456}\pi}")


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        (r"\frac{20\sqrt{2}}{30}", r"\frac{2\sqrt{2}}{3}", True),
        (r"\sqrt{12}", r"2\sqrt{3}", True),
        (r"\sqrt{2}", "1.5", False),
        (r"\sqrt{2}", "1.414213562", None),  # near: math-verify says how near is near enough
        (r"\frac{1}{\sqrt{2}+1}", r"\sqrt{2}-1", None),
        ("x", "x", None),
        (r"\frac{1}{0}", r"\frac{1}{0}", None),
        (r"\infty", r"\infty", None),
    ],
)
def test_numbers_are_decided_without_simplifying_only_if_that_is_sure(gold, answer, equal):
    pair = (parse(rf"\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer))
    assert _compare_numbers(*pair) is equal
