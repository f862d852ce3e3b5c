r"""Finding the final answer in a reply: pure text, linear in its length."""

from __future__ import annotations

import re
from collections.abc import Callable

from sfpo_envs.graders.boxes import is_blank, last_box
from sfpo_envs.graders.headings import is_heading
from sfpo_envs.graders.languages import ANSWER_COLON, ANSWER_IS
from sfpo_envs.graders.number_search import last_number_in
from sfpo_envs.graders.prose import without_marks, without_remarks

MAX_REPLY_CHARS = 65_536
"""Only this many characters at the end of a reply are searched."""
MAX_ANSWER_CHARS = 512
"""Longest answer that is compared."""

_ANSWER = re.compile(
    rf"(?i)(?<![a-z])answer[\s*_]{{0,8}}[:\uff1a]|{ANSWER_COLON}|{ANSWER_IS}(?=[\s*]{{0,8}}[-+$\\0-9(])"
)
_LABEL = re.compile(
    r"(?i)[\s*_#]*(?:(?:so|thus|hence|therefore|the|my|our|final|correct),?\s+){0,4}"
    r"(?:answer|result|solution)[\s*_]*(?:[:=\uff1a]|\s(?:is|equals)(?![a-z])(?!\s+not\b):?)"
)
# What leads to a number or a formula: "Total:", "The value of x is".
_LEAD = re.compile(
    r"(?i)[\s*_#]*(?:(?:[a-z']+,?\s+){0,4}(?:answer|result|solution|total|value|sum|number)"
    r"(?:\s+(?:[a-z']+|\$[a-z]\$)){0,6}?[\s*_]*(?:[:=\uff1a]|\s(?:is|are|equals)(?![a-z]):?)[\s*_]*|#+)"
    r"\s*(?=[-+.\u2212]?[0-9$(\[\\])"
)
# A formula of its own, which may take several lines.
_DISPLAYED = re.compile(
    r"[\s*_]*(?:\\\[((?:(?!\\\[).)*?)\\\]|\$\$((?:(?!\$\$).)*)\$\$)[ \t.*_]*(?:\n|$)", re.DOTALL
)
_DELIMITED = re.compile(r"\\(?:\((.*)\\\)|\[(.*)\\\])\.?", re.DOTALL)
_OPENING = re.compile(r"\\[(\[]")
_EMPHASIZED = re.compile(r"\s*(\*\*|__|[*_`])(.+)\1[.,]?\s*")
_HASHES = re.compile(r"#{4,}")
_HEADING = re.compile(r"\n[ \t]{0,3}#{1,6}[ \t]")
_ANSWER_TAG = re.compile(r"(?i)<(/?)answer>")


def last_boxed(text: str) -> str | None:
    r"""Return what the last box of a text holds that holds something.

    Boxes are ``\boxed{}``, ``\fbox{}`` and, without braces, ``\boxed 42``. Of nested boxes the
    innermost counts, as it is opened last. A box that is never closed counts for nothing, and
    neither does one that holds nothing.

    Returns:
        The content without white space around it, or ``None`` if there is none.
    """
    return last_box(text[-MAX_REPLY_CHARS:])


def last_number(text: str) -> str | None:
    r"""Return the last number of a text: an integer, a decimal or a fraction ``a/b``.

    Returns:
        The number without thousands separators, or ``None`` if there is none. What is a power of
        ten or LaTeX is written plainly: ``6.02e23`` for ``6.02 \times 10^{23}``.
    """
    return last_number_in(text[-MAX_REPLY_CHARS:])


def answer_line(text: str) -> str | None:
    r"""Return what follows the last ``Answer:`` of a text that something follows.

    It is on the same line, or on the next that holds something; a formula in ``\[ \]`` or ``$$ $$``
    may take several.

    Returns:
        The answer, out of its box if it is in one, or ``None`` if there is none.
    """
    for rest in reversed(_ANSWER.split(text[-MAX_REPLY_CHARS:])[1:]):
        if displayed := _DISPLAYED.match(rest):
            answer = _content(displayed[1] or displayed[2] or "")
        else:
            answer = next(filter(None, map(_answer, rest.split("\n"))), None)
        if answer is not None:
            return answer
    return None


def after_hashes(text: str) -> str | None:
    """Return what follows the last ``####`` of a text, on its line, as in GSM8K.

    Hashes that nothing follows count for nothing, and neither do the headings of Markdown.

    Returns:
        The answer, out of its box if it is in one, or ``None`` if there is none.
    """
    text = text[-MAX_REPLY_CHARS:]
    end = len(text)
    for hashes in reversed(list(_HASHES.finditer(text))):
        line, _, below = text[hashes.end() : end].partition("\n")
        end = hashes.start()
        boxed, answer = last_box(line), _content(_LABEL.sub("", without_marks(line), count=1))
        if boxed is not None:
            return boxed
        if answer is None:
            continue
        begins_line = not text[text.rfind("\n", 0, end) + 1 : end].strip()
        below = _HEADING.split("\n" + below, maxsplit=1)[0]
        if not (begins_line and is_heading(answer, below)):
            return _answer(answer)
    return None


def last_tagged(text: str) -> str | None:
    """Return what the last ``<answer> </answer>`` of a text holds, as in DeepSeek-R1-Zero.

    Tags that hold nothing count for nothing.

    Returns:
        The answer, out of its box if it is in one, or ``None`` if there is none.
    """
    text = text[-MAX_REPLY_CHARS:]
    answer, start = None, -1
    for tag in _ANSWER_TAG.finditer(text):
        if tag[1] and start >= 0:
            answer = _answer(text[start : tag.start()]) or answer
        start = -1 if tag[1] else tag.end()
    return answer


def whole(text: str) -> str | None:
    """Return a whole reply, without white space around it, ``None`` if it is blank."""
    return text[-MAX_REPLY_CHARS:].strip() or None


def _answer(text: str) -> str | None:
    """Return the content of a text without words around it, "The answer is 18."."""
    content = _content(without_marks(text))
    lead = (_LEAD.match(content) or _LABEL.match(content)) if content else None
    if content and lead:
        content = _content(content[lead.end() :].rstrip(" ."))
    return _content(without_remarks(content)) if content else None


def _content(text: str) -> str | None:
    """Return a text out of its box, or without markup around it; ``None`` if nothing is left."""
    boxed = last_box(text)
    if boxed is not None:
        return boxed
    emphasized = _EMPHASIZED.fullmatch(text)
    text = (emphasized[2] if emphasized else text).strip(" \t\r\n*_`")
    delimited = _DELIMITED.fullmatch(text)
    if delimited and not _OPENING.search(text, 2):
        text = (delimited[1] or delimited[2] or "").strip()
    return None if is_blank(text) else text


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
