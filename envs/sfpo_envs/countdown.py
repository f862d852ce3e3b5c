"""The numbers game: reach a target with the four operations."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from sfpo_envs.arithmetic_expression import NEGATION, Expression, ExpressionError, evaluate
from sfpo_envs.graders.extraction import EXTRACTORS, check_extraction
from sfpo_envs.options import check_operators
from sfpo_envs.problems.streams import shared_stream
from sfpo_envs.prompts import check_template, fill
from sfpo_envs.stream_env import StreamEnv

COUNTDOWN_PROMPTS = {
    # Small character models; the whole reply is the expression.
    "bare": "{numbers} = {target}?",
    # What TinyZero's users send.
    "tinyzero": (
        "Using the numbers [{numbers}], create an equation that equals {target}. You can use basic "
        "arithmetic operations (+, -, *, /) and each number can only be used once. Show your work "
        "in <think> </think> tags. And return the final answer in <answer> </answer> tags, for "
        "example <answer> (1 + 2) / 3 </answer>."
    ),
}
_SEPARATORS = {"bare": " "}
_MAX_TRIES = 10_000
_PRECEDENCE = {"+": 0, "-": 0, "*": 1, "/": 1}


class NumbersGame(NamedTuple):
    """One game: numbers, a target, and a way to reach it that uses all of them."""

    numbers: tuple[int, ...]
    target: int
    solution: str


class CountdownEnv(StreamEnv[NumbersGame]):
    """Games such as ``3 5 7 = 26?``, answered by an expression such as ``3*7+5``.

    Every game has a solution that uses all its numbers and only positive integers on the way; the
    verifier takes any other, fractions on the way included. Values are exact.

    The reward is 1.0 if the expression has the target's value and keeps to the rules,
    ``format_reward`` if it is one at all, else 0.0. The final ``info["metrics"]`` has
    ``well_formed``: 1.0 for an expression of the allowed operators, and ``uses_right_numbers``.
    """

    def __init__(
        self,
        num_numbers: int = 4,
        min_number: int = 1,
        max_number: int = 99,
        min_target: int = 10,
        max_target: int = 99,
        operators: Sequence[str] = "+-*/",
        use_all: bool = True,
        format_reward: float = 0.0,
        prompt_template: str = "tinyzero",
        extraction: str | None = None,
        split: Literal["train", "test", "all"] = "train",
        size: int | None = None,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        problem_seed: int = 0,
        shuffle_seed: int = 0,
    ) -> None:
        """Create the environment.

        Args:
            num_numbers: How many numbers a game has: the difficulty.
            min_number: Smallest number.
            max_number: Largest number.
            min_target: Smallest target.
            max_target: Largest target.
            operators: Any of ``+``, ``-``, ``*`` and ``/``, each at most once. A reply may use a
                sign, as in ``-3+5``, where ``-`` is among them.
            use_all: Whether a reply must use each number exactly once, or at most once.
            format_reward: Reward of a wrong reply that is an expression of the operators.
            prompt_template: ``"tinyzero"``, ``"bare"``, or text that contains ``{numbers}`` and
                ``{target}``.
            extraction: Where the expression is in a reply: ``"tags"`` (``<answer>``), any other
                of ``EXTRACTORS``, or ``None`` for the template's own: ``"tags"`` where it asks
                for them, else ``"whole"``.
            split: ``"train"``, ``"test"`` (held-out games) or ``"all"``. The same numbers in
                another order are the same game.
            size: How many different games; ``None`` draws without end.
            test_fraction: Share of the games that is held out.
            split_seed: Chooses which.
            problem_seed: Chooses the games.
            shuffle_seed: Chooses the order in which seeds visit them.

        Raises:
            ValueError: An argument is out of its range, or no game fits them.
        """
        generator = _Games(
            num_numbers,
            (min_number, max_number),
            (min_target, max_target),
            tuple(operators),
            problem_seed,
        )
        stream = shared_stream(generator, split, test_fraction, split_seed, size)
        super().__init__(stream, shuffle_seed)
        if not 0 <= format_reward <= 1:
            raise ValueError(f"format_reward={format_reward}: must be from 0 to 1")
        self._template = COUNTDOWN_PROMPTS.get(prompt_template, prompt_template)
        check_template(self._template, ("numbers", "target"))
        if extraction is None:
            extraction = "tags" if "<answer>" in self._template else "whole"
        check_extraction(extraction)
        self._separator = _SEPARATORS.get(prompt_template, ", ")
        self._extract = EXTRACTORS[extraction]
        self._operators = generator.operators
        self._use_all = use_all
        self._format_reward = format_reward

    def _pose(self, item: NumbersGame) -> tuple[str, str]:
        numbers = self._separator.join(map(str, item.numbers))
        return fill(self._template, numbers=numbers, target=str(item.target)), item.solution

    def _grade_item(self, reply: str, item: NumbersGame) -> tuple[float, dict[str, Any]]:
        expression = parse_play(self._extract(reply) or "", self._operators)
        right_numbers = expression is not None and uses_numbers(
            expression, item.numbers, use_all=self._use_all
        )
        is_success = expression is not None and right_numbers and expression.value == item.target
        reward = 1.0 if is_success else self._format_reward * (expression is not None)
        metrics = {
            "well_formed": float(expression is not None),
            "uses_right_numbers": float(right_numbers),
        }
        return reward, {"is_success": is_success, "metrics": metrics}


def parse_play(text: str, operators: Sequence[str]) -> Expression | None:
    """Return an expression evaluated, ``None`` if it is none of these operators.

    Args:
        text: Any text.
        operators: The operators that may occur.
    """
    try:
        expression = evaluate(text)
    except ExpressionError:
        return None
    allowed = {*operators, NEGATION} if "-" in operators else {*operators}
    return expression if allowed.issuperset(expression.operators) else None


def uses_numbers(expression: Expression, numbers: Sequence[int], *, use_all: bool) -> bool:
    """Return whether an expression keeps to the numbers of a game.

    Args:
        expression: What was played.
        numbers: The numbers there are; one that occurs twice may be used twice.
        use_all: Whether each must be used.
    """
    used, given = Counter(expression.numbers), Counter(map(Fraction, numbers))
    return used == given if use_all else used <= given


@dataclass(frozen=True)
class _Games:
    """Draws games from their solutions."""

    num_numbers: int
    number_range: tuple[int, int]
    target_range: tuple[int, int]
    operators: tuple[str, ...]
    problem_seed: int

    def __post_init__(self) -> None:
        if not (isinstance(self.num_numbers, int) and 2 <= self.num_numbers <= 20):
            raise ValueError(f"num_numbers={self.num_numbers!r}: must be an int from 2 to 20")
        for name, (least, most) in (("number", self.number_range), ("target", self.target_range)):
            if not (isinstance(least, int) and isinstance(most, int) and 1 <= least <= most):
                raise ValueError(
                    f"min_{name}={least!r}, max_{name}={most!r}: must be ints from 1 on, in order"
                )
        check_operators(self.operators, _PRECEDENCE)

    def draw(self, number: int) -> NumbersGame:
        rng = random.Random(f"countdown/{self.problem_seed}/{number}")
        least, most = self.target_range
        for _ in range(_MAX_TRIES):
            numbers = tuple(rng.randint(*self.number_range) for _ in range(self.num_numbers))
            solved = self._combine(rng, numbers)
            if solved is not None and least <= solved[0] <= most:
                return NumbersGame(numbers, *solved)
        raise ValueError(
            f"none of {_MAX_TRIES} games of {self.num_numbers} numbers in {self.number_range} with "
            f"{' '.join(self.operators)} has a target in {self.target_range}"
        )

    def question(self, item: NumbersGame) -> str:
        return f"{sorted(item.numbers)}={item.target}"

    def _combine(self, rng: random.Random, numbers: Sequence[int]) -> tuple[int, str] | None:
        """Combine the numbers at random; ``None`` where no step stays in the positive integers."""
        parts = [_Part(number, str(number), 2) for number in numbers]
        while len(parts) > 1:
            left = parts.pop(rng.randrange(len(parts)))
            right = parts.pop(rng.randrange(len(parts)))
            shuffled = rng.sample(self.operators, len(self.operators))
            possible = (_joined(op, left, right) for op in shuffled)
            part = next(filter(None, possible), None)
            if part is None:
                return None
            parts.append(part)
        return parts[0].value, parts[0].text


class _Part(NamedTuple):
    value: int
    text: str
    precedence: int


def _joined(op: str, left: _Part, right: _Part) -> _Part | None:
    if op == "-" and left.value <= right.value:
        return None
    if op == "/" and left.value % right.value:
        return None
    value = {
        "+": left.value + right.value,
        "-": left.value - right.value,
        "*": left.value * right.value,
        "/": left.value // right.value,
    }[op]
    precedence = _PRECEDENCE[op]
    first, second = left.text, right.text
    if left.precedence < precedence:
        first = f"({first})"
    if right.precedence < precedence or (right.precedence == precedence and op in "-/"):
        second = f"({second})"
    return _Part(value, f"{first}{op}{second}", precedence)
