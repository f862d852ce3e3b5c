"""A text space for what language models read and write."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium.spaces import Text

_SAMPLE_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " \n"


class UnicodeText(Text):
    """Every string of a length between two bounds, whatever its characters.

    :class:`gymnasium.spaces.Text` accepts only the characters of a finite set, which neither the
    prompts nor the replies of a language model keep to. Samples are drawn from printable ASCII.
    """

    def __init__(
        self,
        max_length: int,
        *,
        min_length: int = 0,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        """Create the space.

        Args:
            max_length: Longest string of the space, in characters (inclusive).
            min_length: Shortest string of the space, in characters (inclusive).
            seed: Seed of :meth:`sample`.
        """
        super().__init__(max_length, min_length=min_length, charset=_SAMPLE_CHARACTERS, seed=seed)

    def contains(self, x: Any) -> bool:
        """Return whether ``x`` is a string of an admitted length."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"UnicodeText({self.min_length}, {self.max_length})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UnicodeText)
            and self.min_length == other.min_length
            and self.max_length == other.max_length
        )
