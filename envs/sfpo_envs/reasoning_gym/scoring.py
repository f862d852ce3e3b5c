"""Scores of reasoning-gym, made safe to train on.

Its scorers were written for benign text. Some hand the reply to Python's ``eval``, some pay for
text that holds the answer somewhere, or for any text at all, and some raise. Here the reply is
looked at before it comes near them.
"""

from __future__ import annotations

import ast
import json
import logging
import math
import re
from collections.abc import Callable
from typing import Any

from sfpo_envs.countdown import parse_play, uses_numbers

logger = logging.getLogger(__name__)

MAX_ANSWER_CHARS = 8192
"""Longest answer that is scored; the largest boards have some 2,000 characters."""

_GOLD_FIELDS = ("example_answer", "possible_answer", "example_correct_answer")
_SYMBOLIC = re.compile(
    r"(?:\s|[-+*/()^]|[0-9]{1,12}(?:\.[0-9]{1,12})?(?![0-9.])"
    r"|(?:[a-zA-Z]|pi|exp|log|sqrt|a?(?:sin|cos|tan)h?)(?![a-zA-Z0-9_.]))+"
)
_POWER = re.compile(r"(?:\*\*|\^)\s*")
_SMALL_EXPONENT = re.compile(r"\(?-?[0-9]{1,2}(?:\)|/[0-9]{1,2}\))?(?!\s*(?:\*\*|\^|[0-9.(]))")
_MAX_SYMBOLIC_CHARS = 300
_MAX_DEGREE = 1000
_COMPLEX = re.compile(r"[-+*()0-9.ij\s]*")  # no "nan", which is no distance away from anything
_HUGE_NUMBER = re.compile(r"[0-9.][eE][-+]?[0-9_]{4}")  # some scorers write out all its digits
_MOVES = re.compile(r"(?:[^\s\d]+\d?(?:\s+|$))*")


def gold_answer(entry: dict[str, Any]) -> str:
    """Return the known answer of an entry, an example where many are right, blank if none is known.

    Args:
        entry: What the data set gave.
    """
    answers = [entry["answer"], *(entry["metadata"].get(name) for name in _GOLD_FIELDS)]
    known = next((answer for answer in answers if answer is not None), "")
    return known if isinstance(known, str) else json.dumps(known)


def score(dataset: Any, entry: dict[str, Any], answer: str | None) -> tuple[float, bool]:
    """Return the score of an answer, from 0 to 1, and whether the scorer failed.

    Args:
        dataset: The data set of the task.
        entry: The problem.
        answer: What was found in the reply; ``None`` scores 0.
    """
    if answer is None or len(answer) > MAX_ANSWER_CHARS or _HUGE_NUMBER.search(answer):
        return 0.0, False
    try:
        value = float(_score(dataset, entry, answer))
    except Exception as error:  # whatever a scorer makes of hostile text
        logger.debug("%s could not score %r: %r", type(dataset).__name__, answer[:100], error)
        return 0.0, True
    if math.isnan(value):
        return 0.0, True
    return min(max(value, 0.0), 1.0), False


def _score(dataset: Any, entry: dict[str, Any], answer: str) -> float:
    task = entry["metadata"].get("source_dataset", "")
    if task in _OWN_SCORERS:
        return _OWN_SCORERS[task](entry, answer)
    if task in _GUARDS and not _GUARDS[task](answer):
        # What the guard does not let through is still right if it is the answer word for word.
        return float(answer in entry["metadata"].get("valid_answers", [gold_answer(entry)]))
    value = dataset.score_answer(answer, entry)
    gold = entry["answer"]
    if isinstance(gold, str) and gold in answer and math.isclose(value, len(gold) / len(answer)):
        return float(value == 1)  # paid for saying the answer among other things
    return value


def _numbers_game(entry: dict[str, Any], answer: str) -> float:
    """Score ``countdown`` and ``puzzle24``, whose own scorers evaluate the reply.

    Theirs of ``puzzle24``, besides, takes any four numbers and rounds.
    """
    metadata = entry["metadata"]
    play = parse_play(answer, "+-*/")
    if play is None or not uses_numbers(play, metadata["numbers"], use_all=True):
        return 0.0
    return float(play.value == metadata.get("target", 24))


def _is_literal(answer: str) -> bool:
    """Whether ``eval`` of a text does nothing but read lists, numbers and strings."""
    try:
        ast.literal_eval(answer)
    except Exception:  # the parser raises many kinds
        return False
    return True


def _is_symbolic(answer: str) -> bool:
    """Whether sympy may read a text: a formula of names, known functions and small powers."""
    if len(answer) > _MAX_SYMBOLIC_CHARS or not _SYMBOLIC.fullmatch(answer):
        return False
    degree = 1
    for power in _POWER.finditer(answer):
        exponent = _SMALL_EXPONENT.match(answer, power.end())
        if exponent is None:
            return False
        degree *= max(1, *map(int, re.findall(r"[0-9]+", exponent[0])))
    return degree <= _MAX_DEGREE


def _is_complex(answer: str) -> bool:
    """Whether a text could be a complex number that has a distance from others."""
    return _COMPLEX.fullmatch(answer) is not None


def _is_moves(answer: str) -> bool:
    """Whether turns of a cube are repeated few times each; the scorer writes them out."""
    return _MOVES.fullmatch(answer) is not None


_OWN_SCORERS: dict[str, Callable[[dict[str, Any], str], float]] = {
    "countdown": _numbers_game,
    "puzzle24": _numbers_game,
}
_GUARDS: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(
        ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"), _is_literal
    ),
    **dict.fromkeys(
        ("intermediate_integration", "polynomial_multiplication", "simple_integration"),
        _is_symbolic,
    ),
    "complex_arithmetic": _is_complex,
    "rubiks_cube": _is_moves,
}
