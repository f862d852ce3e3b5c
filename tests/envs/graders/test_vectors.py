"""Vectors, as tuples, columns and rows."""

import pytest
from answers import check
from sfpo_envs.graders.vectors import as_tuple


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (
            "(1,-2,3)",
            [r"\langle 1,-2,3\rangle", r"\left\langle 1,-2,3\right\rangle", "⟨1,-2,3⟩",
             r"\begin{pmatrix}1\\-2\\3\end{pmatrix}", r"\begin{bmatrix}1 & -2 & 3\end{bmatrix}",
             r"\mathbf{v}=\langle 1,-2,3\rangle"],
            [r"\langle 1,2,3\rangle", r"\begin{pmatrix}1\\2\\3\end{pmatrix}",
             r"\begin{pmatrix}-2\\1\\3\end{pmatrix}", r"\begin{vmatrix}1\\-2\\3\end{vmatrix}"],
        ),
        (
            r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}",
            [r"\left(-\frac{1}{3}, \frac{2}{3}, \frac{5}{3}\right)"],
            [r"(1/3,2/3,5/3)", "-1/3,2/3,5/3", r"\{-1/3,2/3,5/3\}"],
        ),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", [], [r"\begin{pmatrix}1&2\end{pmatrix}", "3"]),
        (
            r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
            [r"\begin{pmatrix} 1 & 2 \end{pmatrix}^\top",
             r"\begin{bmatrix} 1 & 2 \end{bmatrix}^{\top}"],
            [r"\begin{pmatrix} 1 & -2 \end{pmatrix}^\top",
             r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}^\top"],
        ),
        (
            "(0,2),(0,-2),(4,3)",
            [r"(x,y) = (0,\pm 2), (4,3)", r"(a, b) = (4,3), (0,2), (0,-2)"],
            [r"(y,x) = (0,\pm 2), (4,3)", "(x,y) = (0,2), (4,3)"],
        ),
    ],
)  # fmt: skip
def test_a_vector_is_written_in_any_way(gold, right, wrong):
    check(gold, right, wrong)


@pytest.mark.parametrize(
    "text",
    ["(1,2)", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1\end{pmatrix}",
     r"\begin{pmatrix}\end{pmatrix}", r"\begin{pmatrix}1,2\\3\end{pmatrix}"],
)  # fmt: skip
def test_other_matrices_are_no_tuples(text):
    assert as_tuple(text) is None
