"""Generated arithmetic problems whose difficulty is the number of digits."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from sfpo_envs.options import check_operators
from sfpo_envs.problems.permutation import KeyedPermutation
from sfpo_envs.prompts import check_template, fill
from sfpo_envs.single_turn import Problem, SingleTurnEnv

_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_MAX_DIGITS = 1000  # products stay below the 4300 digits at which Python refuses to print an int
_INTEGER = re.compile(r"-?[0-9]+")


class ArithmeticEnv(SingleTurnEnv):
    """Problems such as ``12+39=``, answered by the bare number.

    With operands of ``num_digits`` digits (0 to 99 for two) there are ``100 ** num_digits``
    problems for each operator. A fixed pseudo-random ``num_test`` of them are held out; ``split``
    says which part this environment shows. Nothing is enumerated, so the number of digits costs
    neither memory nor time. ``a+b`` and ``b+a`` are two problems and may fall on different sides.

    The reward is 1.0 if the reply, stripped of white space, is exactly the answer, else 0.0. The
    final ``info["metrics"]`` has ``well_formed``: 1.0 if the reply is an integer at all.
    """

    def __init__(
        self,
        num_digits: int = 2,
        operators: Sequence[str] = "+",
        reverse_answer: bool = False,
        split: Literal["train", "test", "all"] = "train",
        num_test: int = 512,
        prompt_template: str = "{a}{op}{b}=",
        split_seed: int = 0,
        shuffle_seed: int = 0,
    ) -> None:
        """Create the environment.

        Args:
            num_digits: Largest number of digits of an operand.
            operators: Any of ``+``, ``-`` and ``*``, each at most once.
            reverse_answer: Least significant digit first, which is easier to learn for a model that
                writes from left to right: ``12+39=`` is answered by ``15``. A minus sign stays in
                front.
            split: ``"train"``, ``"test"`` (the held-out problems) or ``"all"``.
            num_test: Number of held-out problems; without effect when ``split`` is ``"all"``.
            prompt_template: Text that contains ``{a}``, ``{op}`` and ``{b}``.
            split_seed: Chooses which problems are held out.
            shuffle_seed: Chooses the order in which seeds visit the problems.

        Raises:
            ValueError: An argument is out of its range.
        """
        super().__init__(shuffle_seed)
        if not (isinstance(num_digits, int) and 1 <= num_digits <= _MAX_DIGITS):
            raise ValueError(f"num_digits={num_digits!r}: must be an int from 1 to {_MAX_DIGITS}")
        check_operators(operators, _OPERATIONS)
        self._operators = tuple(operators)
        check_template(prompt_template, ("a", "op", "b"))
        self._template = prompt_template
        self._reverse_answer = reverse_answer
        self._num_operands = 10**num_digits
        total = len(self._operators) * self._num_operands**2
        self._split = KeyedPermutation(total, "split", split_seed)
        self._positions = _split_positions(split, num_test, total)

    @property
    def num_problems(self) -> int:
        """How many problems this split has."""
        # Not len(): it refuses what does not fit a machine word, as twelve digits do not.
        return self._positions.stop - self._positions.start

    def _problem_at(self, index: int) -> Problem:
        rest, b = divmod(self._split(self._positions[index]), self._num_operands)
        which, a = divmod(rest, self._num_operands)
        op = self._operators[which]
        answer = str(_OPERATIONS[op](a, b))
        if self._reverse_answer:
            sign = "-" if answer.startswith("-") else ""
            answer = sign + answer.removeprefix("-")[::-1]
        return Problem(fill(self._template, a=str(a), op=op, b=str(b)), answer)

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        reply = reply.strip()
        is_success = reply == answer
        metrics = {"well_formed": float(_INTEGER.fullmatch(reply) is not None)}
        return float(is_success), {"is_success": is_success, "metrics": metrics}


def _split_positions(split: str, num_test: int, total: int) -> range:
    """Return the positions of a split in the permutation of all problems, held-out ones first."""
    if split == "all":
        return range(total)
    if not (isinstance(num_test, int) and 1 <= num_test < total):
        raise ValueError(
            f"num_test={num_test!r}: must be an int from 1 to {total - 1}, to leave some of the "
            f"{total} problems for training"
        )
    if split == "test":
        return range(num_test)
    if split == "train":
        return range(num_test, total)
    raise ValueError(f"split={split!r}: must be 'train', 'test' or 'all'")
