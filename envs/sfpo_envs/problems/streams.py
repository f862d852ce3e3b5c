"""Problems that are drawn by number, without an end or as many as asked for."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Generic, Protocol, TypeVar

STREAM_LENGTH = 2**31
"""Length of an epoch, in seeds, where no ``size`` is given."""

SPLITS = ("train", "test", "all")
_MAX_DRAWS = 1000  # to find one problem of a split; 1 in 10 draws is one by default
_DRAWS_PER_PROBLEM = 20  # to find ``size`` different ones, times what the split leaves out

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


class Generator(Protocol[ItemT_co]):
    """Draws items; to be shared by equal environments it hashes by its settings."""

    def draw(self, number: int) -> ItemT_co:
        """Return the item of a number from 0 on, which depends on nothing else."""

    def question(self, item: Any) -> str:
        """Return what makes an item different from others; it decides the side of the split."""


class ProblemStream(Generic[ItemT]):
    """The items of one side of a split, by index.

    A hash of the question decides the side, so that no question is ever on both. With ``size``
    the stream is that many different questions, found once, when first needed; without, it does
    not end in practice, takes no memory, and a question may come again.
    """

    def __init__(
        self,
        generator: Generator[ItemT],
        split: str,
        test_fraction: float,
        split_seed: int,
        size: int | None,
    ) -> None:
        """Create the stream.

        Args:
            generator: Draws the items.
            split: ``"train"``, ``"test"`` or ``"all"``.
            test_fraction: Share of the questions that is held out.
            split_seed: Chooses which.
            size: How many questions, ``None`` for as many as there are seeds.

        Raises:
            ValueError: An argument is out of its range, or the generator's settings do not work.
        """
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: must be 'train', 'test' or 'all'")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction={test_fraction!r}: must be between 0 and 1")
        if not (size is None or (isinstance(size, int) and 1 <= size <= STREAM_LENGTH)):
            raise ValueError(f"size={size!r}: must be None or an int from 1 to {STREAM_LENGTH}")
        generator.draw(0)  # raises now what would raise later
        self._generator = generator
        self._split = split
        self._test_fraction = test_fraction
        self._split_seed = split_seed
        self._size = size

    @property
    def length(self) -> int:
        """How many items there are."""
        return self._size or STREAM_LENGTH

    def __getitem__(self, index: int) -> ItemT:
        """Return item ``index`` of ``range(length)``.

        Raises:
            ValueError: There are too few questions on this side of the split.
        """
        if self._size is not None:
            return self._generator.draw(self._different[index])
        for attempt in range(_MAX_DRAWS):
            item = self._generator.draw(_hash(index, attempt) >> 1)
            if self._includes(self._generator.question(item)):
                return item
        raise ValueError(
            f"split={self._split!r}: none of {_MAX_DRAWS} problems drawn belongs to it"
        )

    @functools.cached_property
    def _different(self) -> list[int]:
        """The numbers of the first ``size`` different questions of this side."""
        assert self._size is not None
        share = {"train": 1 - self._test_fraction, "test": self._test_fraction, "all": 1.0}
        num_draws = _MAX_DRAWS + int(_DRAWS_PER_PROBLEM * self._size / share[self._split])
        numbers: list[int] = []
        seen: set[int] = set()
        for number in range(num_draws):
            question = self._generator.question(self._generator.draw(number))
            digest = _hash(question)
            if digest not in seen and self._includes(question):
                numbers.append(number)
                if len(numbers) == self._size:
                    return numbers
            seen.add(digest)
        raise ValueError(
            f"size={self._size}: {num_draws} draws gave only {len(numbers)} different problems "
            f"(split={self._split!r})"
        )

    def _includes(self, question: str) -> bool:
        if self._split == "all":
            return True
        is_test = _hash(self._split_seed, question) < self._test_fraction * 2**64
        return is_test == (self._split == "test")


@functools.lru_cache(maxsize=64)
def shared_stream(
    generator: Generator[ItemT],
    split: str,
    test_fraction: float,
    split_seed: int,
    size: int | None,
) -> ProblemStream[ItemT]:
    """Return the :class:`ProblemStream` of these arguments, one a process for equal ones."""
    return ProblemStream(generator, split, test_fraction, split_seed, size)


def _hash(*parts: int | str) -> int:
    """Return 64 bits that depend on the parts alone, in any process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
