"""Spaces of what language models read and write: texts, and lists of chat messages."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from gymnasium.spaces import Space, Text

ChatMessage = dict[str, str]
"""A ``"role"`` and a ``"content"``."""

MAX_TEXT_CHARS = 65_536
"""Longest prompt and reply that the package's environments take, in characters."""

CHAT_ROLES = ("system", "user", "assistant", "tool")

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


class ChatMessages(Space[list[ChatMessage]]):
    """Every list of chat messages within bounds, whatever the characters of their contents.

    A message is a dictionary of exactly two strings, ``"role"`` and ``"content"``. Samples have
    contents of printable ASCII and go from user to assistant and back.
    """

    def __init__(
        self,
        max_length: int,
        *,
        max_messages: int = 64,
        min_messages: int = 1,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        """Create the space.

        Args:
            max_length: Most characters of all contents together (inclusive).
            max_messages: Longest list of the space, in messages (inclusive).
            min_messages: Shortest list of the space, in messages (inclusive).
            seed: Seed of :meth:`sample`.

        Raises:
            ValueError: The bounds leave no list.
        """
        if not 0 <= min_messages <= max_messages:
            raise ValueError(
                f"min_messages={min_messages}: must be from 0 to max_messages={max_messages}"
            )
        if max_length < 0:
            raise ValueError(f"max_length={max_length}: must not be negative")
        super().__init__(seed=seed)
        self.max_length = max_length
        self.max_messages = max_messages
        self.min_messages = min_messages

    @property
    def is_np_flattenable(self) -> bool:
        """Whether samples can become arrays of one shape: no."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> list[ChatMessage]:
        """Return a random member of the space.

        Args:
            mask: Not supported.
            probability: Not supported.
        """
        if mask is not None or probability is not None:
            raise ValueError("ChatMessages can sample neither with a mask nor with probabilities")
        number = int(self.np_random.integers(self.min_messages, self.max_messages + 1))
        room = self.max_length
        messages = []
        for index in range(number):
            length = int(self.np_random.integers(room // (number - index) + 1))
            room -= length
            characters = self.np_random.choice(list(_SAMPLE_CHARACTERS), size=length)
            messages.append(
                {"role": ("user", "assistant")[index % 2], "content": "".join(characters)}
            )
        return messages

    def contains(self, x: Any) -> bool:
        """Return whether ``x`` is a list of chat messages within the bounds."""
        return (
            isinstance(x, list)
            and self.min_messages <= len(x) <= self.max_messages
            and all(_is_message(message) for message in x)
            and sum(len(message["content"]) for message in x) <= self.max_length
        )

    def __repr__(self) -> str:
        return (
            f"ChatMessages({self.max_length}, max_messages={self.max_messages}, "
            f"min_messages={self.min_messages})"
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ChatMessages)
            and self.max_length == other.max_length
            and self.max_messages == other.max_messages
            and self.min_messages == other.min_messages
        )


def texts(observation: str | list[ChatMessage]) -> list[str]:
    """Return what an observation of either space says, message by message."""
    if isinstance(observation, str):
        return [observation]
    return [message["content"] for message in observation]


def _is_message(x: Any) -> bool:
    return (
        isinstance(x, dict)
        and x.keys() == {"role", "content"}
        and x["role"] in CHAT_ROLES
        and isinstance(x["content"], str)
    )
