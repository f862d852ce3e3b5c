"""The task: sums that are worked out column by column, with the carries written out."""

import hashlib
import random
from typing import Any

import gymnasium as gym
from sfpo_envs import Problem, SingleTurnEnv

COLUMNS = "abcdefgh"  # from the ones on
NUM_TEST = 512
NUM_TRAIN = 20_000


def written_out(first: int, second: int, num_columns: int) -> Problem:
    """The sum with its working, columns from the ones on.

    `a75b26=` asks for 7 + 5 in the ones and 2 + 6 in the tens. The reply gives each column with
    the carry of the one before, `a7+5+0=12;b2+6+1=09;`, then each digit of the answer with its
    column, and the last carry: `>a2b90`. With EOS it has 12 characters a column and 3.
    """
    prompt = working = answer = ""
    carry = 0
    for name in COLUMNS[:num_columns]:
        first, one = divmod(first, 10)
        second, other = divmod(second, 10)
        total = one + other + carry
        prompt += f"{name}{one}{other}"
        working += f"{name}{one}+{other}+{carry}={total:02};"
        answer += f"{name}{total % 10}"
        carry = total // 10
    return Problem(f"{prompt}=", f"{working}>{answer}{carry}")


class ColumnAdditionEnv(SingleTurnEnv):
    """Reward 1 for the sum and its working, both without a slip."""

    def __init__(self, split: str = "train", num_columns: int = 6) -> None:
        """Draws the sums.

        Args:
            split: "train" or "test", which have none in common.
            num_columns: Digits of the numbers, 2 to 8.
        """
        super().__init__()
        self._num_columns = num_columns
        self._sums = _sums(split, num_columns)

    @property
    def num_problems(self) -> int:
        """Sums of this split."""
        return len(self._sums)

    def _problem_at(self, index: int) -> Problem:
        return written_out(*self._sums[index], self._num_columns)

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        return float(reply == answer), {"is_success": reply == answer}


def _sums(split: str, num_columns: int) -> list[tuple[int, int]]:
    """Pairs of numbers; a hash of the pair decides its side, a tenth being held out."""
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}: must be 'train' or 'test'")
    limit = 10**num_columns
    wanted = NUM_TEST if split == "test" else min(NUM_TRAIN, limit * limit * 4 // 5)
    rng = random.Random(0)
    sums: dict[tuple[int, int], None] = {}
    while len(sums) < wanted:
        pair = rng.randrange(limit), rng.randrange(limit)
        digest = hashlib.blake2b(repr(pair).encode(), digest_size=1).digest()
        if (digest[0] < 26) == (split == "test"):
            sums[pair] = None
    return list(sums)


gym.register("benchmark/ColumnAddition-v0", f"{__name__}:ColumnAdditionEnv")
