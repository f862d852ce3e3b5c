r"""Writing intervals in the usual brackets: ``]2,5[`` is (2, 5), and "or" joins unbounded ones."""

from __future__ import annotations

import re

_MAX_CHARS = 256
_FRENCH = re.compile(
    r"\s*(?:[a-z]\s*\\in\s*)?(?:(?:\\left\s*)?\]|(?:\\left\s*)?\[.*\[\s*$)", re.DOTALL
)
_INTERVAL = re.compile(
    r"(?:\\left\s*)?(?P<open>[\[\]])(?P<low>[^\[\],;]+)[,;](?P<high>[^\[\],;]+?)"
    r"(?:\\right\s*)?(?P<close>[\[\]])"
)
_OR = re.compile(r"(?<=[)\]])[\s,]*(?:\\text\s*\{\s*or\s*\}|or)\s*(?=(?:\\left\s*)?[(\[])")


def in_usual_brackets(text: str) -> str:
    r"""Return an answer with its intervals in parentheses and brackets, joined by ``\cup``."""
    if len(text) > _MAX_CHARS:
        return text
    if _FRENCH.match(text.rstrip(" .$")):
        text = _INTERVAL.sub(_usual, text)
    if "\\infty" in text or "\u221e" in text:
        text = _OR.sub(r" \\cup ", text)
    return text


def _usual(interval: re.Match[str]) -> str:
    opening = "(" if interval["open"] == "]" else "["
    closing = ")" if interval["close"] == "[" else "]"
    return f"{opening}{interval['low']},{interval['high']}{closing}"
