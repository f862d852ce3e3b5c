"""Telling the headings of a reply from its answer, as Markdown's ``####`` is GSM8K's mark too."""

from __future__ import annotations

import re

_WORD = r"[^\W\d_]{2,}"
# What a part of a solution is called: "Step 2: Add", "Case B", "Final Answer", "Verification".
_PART = re.compile(
    r"(?i)(?:(?:the|our|my|a|final|quick|given|key|important|alternative|short|main) )*"
    r"(?:step|case|part|method|approach|option|question|problem|example|solution|answer|result"
    r"|conclusion|explanation|reasoning|verification|check|summary|analysis|calculations?"
    r"|computation|proof|note|understanding|introduction|overview|background|interpretation|setup"
    r"|strategy|response|output|details|information|data|steps?(?: by |-by-)steps?.*|review|recap)"
    r"(?: (?:\d+|[a-z]|[ivx]+|one|two|three|four|five|six))?(?:\s*$|\s*[:.)(\u2013\u2014-].*)"
)
_NUMBERED = re.compile(rf"[(\[]?\d{{1,2}}[.):]\s+{_WORD}")  # "2. Add the numbers"
_WORDS = re.compile(
    rf"(?:\([a-z]\)\s+)?{_WORD}(?![(\[/*^=+_\\])(?:[^\w$\\]*$|[\s,;:.!?'\u2019()\u2013\u2014-])"
)
_ORNAMENT = re.compile(r"^[^\w$\\(\[{+.<-]+|\*\*")  # emphasis, and pictures before the words


def is_heading(line: str, text_below: str) -> bool:
    """Return whether a line with ``####`` before it is a heading and no answer.

    It is if it names a part of a solution, or if it is words with a colon, or with text between
    them and the next heading.
    """
    line = _ORNAMENT.sub("", line.strip()).strip(" *_`")
    if _PART.fullmatch(line) or _NUMBERED.match(line):
        return True
    has_more = line.endswith((":", "\uff1a")) or re.search(r"\w", text_below)
    return bool(has_more and _WORDS.match(line))
