r"""Replies to grade: prose, then one box, no two alike."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

NUM_WORDS = 800  # each at least one token
_PROSE = (
    "we the so first then number sum consider therefore because equation both sides divide by "
    "multiply triangle area length of remaining apples each total gives which is equal to value "
    "check that this holds since factor product even odd prime case now suppose let us compute"
)


@dataclass(frozen=True)
class Problem:
    r"""A reply and what it is graded by.

    Attributes:
        reply: Prose that ends in ``\boxed{}``.
        gold: The right answer.
        is_right: Whether the reply is.
    """

    reply: str
    gold: str
    is_right: bool


def problems(kind: str, seed: int) -> Iterator[Problem]:
    """Yields problems without end, about half of them solved.

    Args:
        kind: A key of :data:`KINDS`.
        seed: Of everything in them.
    """
    rng = random.Random(seed)
    seen = set()
    while True:
        gold, right, wrong = KINDS[kind](rng)
        if gold in seen:
            continue
        seen.add(gold)
        is_right = rng.random() < 0.5
        yield Problem(_reply(rng, right if is_right else wrong), gold, is_right)


def _reply(rng: random.Random, answer: str) -> str:
    words = rng.choices(_PROSE.split(), k=NUM_WORDS - 4)
    for place in range(9, len(words), 10):
        words[place] = f"{rng.randrange(1000)}."
    return " ".join(words) + rf" the answer is $\boxed{{{answer}}}$."


def _integer(rng: random.Random) -> tuple[str, str, str]:
    number = rng.randrange(10**6)
    return str(number), str(number), str(number + rng.randint(1, 9))


def _latex(rng: random.Random) -> tuple[str, str, str]:
    """A fraction with a radical or pi, or a multiple of a radical; its second form is expanded."""
    over, under, factor = rng.randint(2, 99), rng.randint(2, 99), rng.randint(2, 9)
    radicand = rng.choice([2, 3, 5, 6, 7, 10, 11, 13, 14, 15])
    shape = rng.choice(
        [rf"\frac{{%d\sqrt{{{radicand}}}}}{{%d}}", r"\frac{%d\pi}{%d}", r"%d\sqrt{%d}"]
    )
    if shape.startswith("%"):
        forms = (over * factor, radicand), (over, radicand * factor**2), (over + 1, radicand)
    else:
        expanded = under * factor
        forms = (over, under), (over * factor, expanded), (over * factor + 1, expanded)
    gold, right, wrong = (shape % form for form in forms)
    return gold, right, wrong


KINDS: dict[str, Callable[[random.Random], tuple[str, str, str]]] = {
    "integers": _integer,
    "latex": _latex,
}
"""What makes a gold answer, a right one in other words, and a wrong one."""
