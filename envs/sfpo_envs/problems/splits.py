"""Training and test parts of a problem set that has none of its own."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from sfpo_envs.problems.dataset import MathDataset

_HASH_BITS = 64


@lru_cache(maxsize=16)
def take_split(
    data: MathDataset, split: str, test_fraction: float | None, num_test: int | None, seed: int
) -> MathDataset:
    """Return a part of a problem set.

    The hash of its text alone decides on which side a problem falls, so a problem that occurs
    twice is on one side only. With ``test_fraction`` it stays there whatever else is in the set.

    Args:
        data: The problem set.
        split: ``"train"``, ``"test"`` or ``"all"``.
        test_fraction: About this share of the problems is the test part.
        num_test: This many different problems are the test part.
        seed: Chooses which.

    Raises:
        ValueError: An argument is out of its range, or the part is empty.
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"split={split!r}: must be 'train', 'test' or 'all'")
    if split == "all":
        return data
    hashes = [_text_hash(problem, seed) for problem in data.problems]
    bound = _test_bound(hashes, split, test_fraction, num_test)
    part = data.subset(i for i, each in enumerate(hashes) if (each < bound) == (split == "test"))
    if not part.problems:
        raise ValueError(
            f"test_fraction={test_fraction}: leaves nothing of the {len(hashes)} problems of "
            f"{data.name} for split={split!r}; num_test gives the test part an exact size"
        )
    return part


def same_text(problem: str) -> str:
    """Return what two spellings of a problem that differ in white space have in common."""
    return " ".join(problem.split())


def _text_hash(problem: str, seed: int) -> int:
    text = f"{seed}/{same_text(problem)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[: _HASH_BITS // 8], "big")


def _test_bound(
    hashes: list[int], split: str, test_fraction: float | None, num_test: int | None
) -> int:
    """Return the hash below which problems are in the test part."""
    if (test_fraction is None) == (num_test is None):
        raise ValueError(
            f"split={split!r}: needs either test_fraction or num_test, not "
            f"test_fraction={test_fraction!r} and num_test={num_test!r}"
        )
    if num_test is None:
        assert test_fraction is not None
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction={test_fraction!r}: must be between 0 and 1")
        return int(test_fraction * 2**_HASH_BITS)
    distinct = sorted(set(hashes))
    if not (isinstance(num_test, int) and 1 <= num_test < len(distinct)):
        raise ValueError(
            f"num_test={num_test!r}: must be an int from 1 to {len(distinct) - 1}, to leave some "
            f"of the {len(distinct)} different problems for training"
        )
    return distinct[num_test]
