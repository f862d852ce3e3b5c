"""Arithmetic over several turns, with a calculator that the model calls by text."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from sfpo_envs.arithmetic_expression import NEGATION, ExpressionError, evaluate, parse_number
from sfpo_envs.graders.extraction import MAX_REPLY_CHARS
from sfpo_envs.options import check_operators, instead
from sfpo_envs.problems.streams import shared_stream
from sfpo_envs.prompts import check_template, fill
from sfpo_envs.spaces import MAX_TEXT_CHARS
from sfpo_envs.stream_env import StreamEnv

_OPERATORS = ("+", "-", "*", "/")
_CALLS_PER_TURN = 8


@dataclass(frozen=True)
class CalculatorStyle:
    """What the model writes and reads.

    Attributes:
        prompt: The first observation; contains ``{problem}``.
        call_open: What a call begins with.
        call_close: What it ends with.
        answer_open: What the final answer begins with.
        answer_close: What it ends with; blank: the end of the reply.
        result: The observation after a call; contains ``{result}``.
        error: The observation after a call that failed; may contain ``{error}``.
        reminder: The observation after a reply with neither a call nor an answer.
    """

    prompt: str = (
        "Calculate {problem}. You have a calculator for single steps: write an expression between "
        "<calc> and </calc>, end your turn there, and you are told its value. Give the final "
        "answer between <answer> and </answer>, as an integer or a fraction a/b."
    )
    call_open: str = "<calc>"
    call_close: str = "</calc>"
    answer_open: str = "<answer>"
    answer_close: str = "</answer>"
    result: str = "Result: {result}"
    error: str = "Error: {error}"
    reminder: str = "Write <calc>...</calc> to calculate or <answer>...</answer> to answer."


CALCULATOR_STYLES = {
    "chat": CalculatorStyle(),
    # Small character models, whose alphabet this is: digits and +-*/[]=?>!
    "char": CalculatorStyle(
        prompt="{problem}?",
        call_open="[",
        call_close="]",
        answer_open="=",
        answer_close="",
        result=">{result}?",
        error=">!?",
        reminder=">!?",
    ),
}


class CalculatorEnv(StreamEnv[str]):
    """Problems such as ``83*47-12``, with a calculator at hand: an episode of several turns.

    A reply that gives an answer ends the episode. One that calls the calculator, as
    ``<calc>83*47</calc>``, is told the values, or what is wrong with the expression: that is an
    observation, not the end. After ``max_turns`` replies without an answer the episode is
    truncated.

    The reward is that of the last turn: for the right number 1.0 less ``call_penalty`` for each
    call, at least 0.0; for anything else 0.0. The final ``info["metrics"]`` has ``num_calls``,
    ``tool_errors`` (calls that failed) and ``answered``.
    """

    def __init__(
        self,
        num_operands: int = 3,
        num_digits: int = 2,
        operators: Sequence[str] = "+-*",
        operations_per_call: int | None = None,
        max_turns: int = 8,
        call_penalty: float = 0.0,
        style: str | Mapping[str, str] = "chat",
        split: Literal["train", "test", "all"] = "train",
        size: int | None = None,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        problem_seed: int = 0,
        shuffle_seed: int = 0,
    ) -> None:
        """Create the environment.

        Args:
            num_operands: How many numbers a problem has.
            num_digits: How many digits each has.
            operators: Any of ``+``, ``-``, ``*`` and ``/``, each at most once.
            operations_per_call: How many operations an expression given to the calculator may
                have; ``None`` for any number. With 1, a problem of three numbers takes two calls.
            max_turns: Replies after which an episode without an answer is truncated.
            call_penalty: Taken off the reward of a right answer for each call, from 0 to 1.
            style: ``"chat"``, ``"char"`` (for small character models), or a mapping that gives
                fields of :class:`CalculatorStyle`, the others as in ``"chat"``.
            split: ``"train"``, ``"test"`` (held-out problems) or ``"all"``.
            size: How many different problems; ``None`` draws without end.
            test_fraction: Share of the problems that is held out.
            split_seed: Chooses which.
            problem_seed: Chooses the problems.
            shuffle_seed: Chooses the order in which seeds visit them.

        Raises:
            ValueError: An argument is out of its range.
        """
        generator = _Expressions(num_operands, num_digits, tuple(operators), problem_seed)
        stream = shared_stream(generator, split, test_fraction, split_seed, size)
        super().__init__(stream, shuffle_seed)
        if operations_per_call is not None and not _is_int(operations_per_call, 1, 1000):
            raise ValueError(
                f"operations_per_call={operations_per_call!r}: must be None or an int from 1 on"
            )
        if not _is_int(max_turns, 1, 1_000_000):
            raise ValueError(f"max_turns={max_turns!r}: must be an int from 1 on")
        if not 0 <= call_penalty <= 1:
            raise ValueError(f"call_penalty={call_penalty}: must be from 0 to 1")
        self._operations_per_call = operations_per_call
        self._max_turns = max_turns
        self._call_penalty = call_penalty
        self._style = _resolve_style(style)
        opening, closing = re.escape(self._style.call_open), re.escape(self._style.call_close)
        self._call = re.compile(f"{opening}((?:(?!{opening}).)*?){closing}", re.DOTALL)
        self._num_turns = self._num_calls = self._num_errors = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; see :meth:`SingleTurnEnv.reset`."""
        self._num_turns = self._num_calls = self._num_errors = 0
        return super().reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take a reply: a final answer, or calls of the calculator.

        Args:
            action: The reply; any string. Of one longer than the action space admits, the end
                counts.

        Returns:
            What the calculator says, blank at the end of the episode; the reward; whether it was
            answered (terminated), or out of turns (truncated); and at the end an ``info`` with
            ``is_success`` and ``metrics``.

        Raises:
            RuntimeError: No episode is under way.
        """
        if self._current is None:
            raise RuntimeError("no episode is under way: call reset() before step()")
        action = action[-MAX_TEXT_CHARS:]
        self._num_turns += 1
        if _last_between(action, self._style.answer_open, self._style.answer_close) is not None:
            return self._end(action, truncated=False)
        observation = self._observe(action)
        if self._num_turns == self._max_turns:
            return self._end("", truncated=True)
        return observation, 0.0, False, False, {}

    def _end(self, reply: str, *, truncated: bool) -> tuple[str, float, bool, bool, dict[str, Any]]:
        reward, info = self._grade_item(reply, self._item)
        self._current = None
        return "", reward, not truncated, truncated, info

    def _pose(self, item: str) -> tuple[str, str]:
        return fill(self._style.prompt, problem=item), str(evaluate(item).value)

    def _grade_item(self, reply: str, item: str) -> tuple[float, dict[str, Any]]:
        answer = _last_between(reply, self._style.answer_open, self._style.answer_close)
        is_success = answer is not None and parse_number(answer) == evaluate(item).value
        reward = max(0.0, 1.0 - self._call_penalty * self._num_calls) if is_success else 0.0
        metrics = {
            "num_calls": float(self._num_calls),
            "tool_errors": float(self._num_errors),
            "answered": float(answer is not None),
        }
        return reward, {"is_success": is_success, "metrics": metrics}

    def _observe(self, reply: str) -> str:
        calls = self._call.findall(reply)[:_CALLS_PER_TURN]
        return "\n".join(map(self._calculate, calls)) or self._style.reminder

    def _calculate(self, expression: str) -> str:
        self._num_calls += 1
        try:
            done = evaluate(expression)
            num_operations = len(done.operators) - done.operators.count(NEGATION)
            if num_operations > (self._operations_per_call or num_operations):
                raise ExpressionError(
                    f"more than {self._operations_per_call} operations", len(expression)
                )
        except ExpressionError as error:
            self._num_errors += 1
            return fill(self._style.error, error=str(error))
        return fill(self._style.result, result=str(done.value))


@dataclass(frozen=True)
class _Expressions:
    """Draws expressions without parentheses; no operand is 0, so that every one has a value."""

    num_operands: int
    num_digits: int
    operators: tuple[str, ...]
    problem_seed: int

    def __post_init__(self) -> None:
        if not _is_int(self.num_operands, 2, 20):
            raise ValueError(f"num_operands={self.num_operands!r}: must be an int from 2 to 20")
        if not _is_int(self.num_digits, 1, 20):
            raise ValueError(f"num_digits={self.num_digits!r}: must be an int from 1 to 20")
        check_operators(self.operators, _OPERATORS)

    def draw(self, number: int) -> str:
        rng = random.Random(f"calculator/{self.problem_seed}/{number}")
        least, most = 10 ** (self.num_digits - 1), 10**self.num_digits - 1
        text = str(rng.randint(least, most))
        for _ in range(self.num_operands - 1):
            text += rng.choice(self.operators) + str(rng.randint(least, most))
        return text

    def question(self, item: str) -> str:
        return item


def _resolve_style(style: str | Mapping[str, str]) -> CalculatorStyle:
    if isinstance(style, str):
        if style not in CALCULATOR_STYLES:
            raise ValueError(f"style={style!r}: {instead(style, CALCULATOR_STYLES)}")
        return CALCULATOR_STYLES[style]
    known = [field.name for field in fields(CalculatorStyle)]
    for name, text in style.items():
        if name not in known:
            raise ValueError(f"style has {name!r}: {instead(name, known)}")
        if not isinstance(text, str):
            raise ValueError(f"style[{name!r}]={text!r}: must be text")
        if not text and name in ("call_open", "call_close", "answer_open"):
            raise ValueError(f"style[{name!r}]={text!r}: must not be blank")
    resolved = replace(CalculatorStyle(), **style)
    check_template(resolved.prompt, ("problem",))
    if "{result}" not in resolved.result:
        raise ValueError(f"style['result']={resolved.result!r}: must contain {{result}}")
    return resolved


def _last_between(text: str, opening: str, closing: str) -> str | None:
    """Return what stands between the last pair of two markers.

    Args:
        text: A reply.
        opening: The marker before.
        closing: The marker behind; if blank, everything behind ``opening`` counts.

    Returns:
        The text between them without white space around it, ``None`` if there is none.
    """
    text = text[-MAX_REPLY_CHARS:]
    end = text.rfind(closing) if closing else len(text)
    start = text.rfind(opening, 0, max(end, 0))
    if start < 0:
        return None
    return text[start + len(opening) : end].strip() or None


def _is_int(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and least <= value <= most
