r"""Finding the final answer in a reply: pure text, linear in its length."""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_REPLY_CHARS = 65_536
"""Only this many characters at the end of a reply are searched."""
MAX_ANSWER_CHARS = 512
"""Longest answer that is compared."""

# An escaped character is one token, so that the braces of the set \{1, 2\} do not count as groups.
_BOX_TOKENS = re.compile(r"\\boxed\s{0,8}\{|\\.|[{}]", re.DOTALL)

_ANSWER_LINE = re.compile(r"(?i)\banswer[\s*]{0,8}:([^\n]*)")

# A minus sign belongs to the number unless something stands before it that it could subtract from.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])-)?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?|\.[0-9]+)"
)


def last_boxed(text: str) -> str | None:
    r"""Return what the last balanced ``\boxed{}`` of a text holds.

    Of nested boxes the innermost counts, as it is opened last. A box that is never closed counts
    for nothing, and neither does one that holds nothing.

    Args:
        text: A reply.

    Returns:
        The content without white space around it, or ``None`` if there is none.
    """
    text = text[-MAX_REPLY_CHARS:]
    open_groups: list[tuple[bool, int]] = []  # whether it is a box, and where its content starts
    best_start, content = -1, ""
    for token in _BOX_TOKENS.finditer(text):
        if token[0] == "}":
            if not open_groups:
                continue
            is_box, start = open_groups.pop()
            if is_box and start > best_start:
                best_start, content = start, text[start : token.start()]
        elif token[0].endswith("{") and token[0] != r"\{":
            open_groups.append((token[0] != "{", token.end()))
    return content.strip() or None


def last_number(text: str) -> str | None:
    """Return the last number of a text: an integer, a decimal or a fraction ``a/b``.

    Args:
        text: A reply.

    Returns:
        The number without thousands separators, or ``None`` if there is none.
    """
    numbers = _NUMBER.findall(text[-MAX_REPLY_CHARS:].replace("\u2212", "-"))
    return numbers[-1].replace(",", "") if numbers else None


def answer_line(text: str) -> str | None:
    r"""Return what follows the last ``Answer:`` of a text, on its line.

    Args:
        text: A reply.

    Returns:
        The answer, out of its box if it is in one, or ``None`` if there is none.
    """
    lines = _ANSWER_LINE.findall(text[-MAX_REPLY_CHARS:])
    return _content(lines[-1]) if lines else None


def after_hashes(text: str) -> str | None:
    """Return what follows the last ``####`` of a text, on its line, as in GSM8K.

    Args:
        text: A reply.

    Returns:
        The answer, out of its box if it is in one, or ``None`` if there is none.
    """
    _, hashes, rest = text[-MAX_REPLY_CHARS:].rpartition("####")
    return _content(rest.split("\n", 1)[0]) if hashes else None


def last_tagged(text: str) -> str | None:
    """Return what the last ``<answer> </answer>`` of a text holds, as in DeepSeek-R1-Zero.

    Args:
        text: A reply.

    Returns:
        The answer, out of its box if it is in one, or ``None`` if there is none.
    """
    text = text[-MAX_REPLY_CHARS:]
    end = max(text.rfind("</answer>"), 0)
    _, tag, content = text[:end].rpartition("<answer>")
    return _content(content.strip()) if tag else None


def whole(text: str) -> str | None:
    """Return a whole reply, without white space around it, ``None`` if it is blank.

    Args:
        text: A reply.
    """
    return text[-MAX_REPLY_CHARS:].strip() or None


def _content(line: str) -> str | None:
    return last_boxed(line) or line.strip(" \t\r*") or None


EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    "boxed": last_boxed,
    "last_number": last_number,
    "answer_line": answer_line,
    "hashes": after_hashes,
    "tags": last_tagged,
    "whole": whole,
}
"""How the answer is found in a reply, by name."""


def check_extraction(name: str) -> None:
    """Check the name of an extractor.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"extraction={name!r}: must be one of {', '.join(EXTRACTORS)}")
