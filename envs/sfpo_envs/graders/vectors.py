r"""Vectors, which are written as tuples, columns or rows: ``(1, 2)`` and a ``pmatrix`` are one."""

from __future__ import annotations

import re

_MATRIX = re.compile(
    r"\s*\\begin\{(?P<name>[pb]matrix)\}(?P<entries>.*)\\end\{(?P=name)\}\s*", re.DOTALL
)
_ROW_END = re.compile(r"\\\\")


def as_tuple(text: str) -> str | None:
    """Return the tuple of a respelled matrix of one column or one row, ``None`` of other text."""
    matrix = _MATRIX.fullmatch(text)
    if not matrix:
        return None
    rows = [row.strip() for row in _ROW_END.split(matrix["entries"].strip())]
    rows = rows[:-1] if not rows[-1] else rows
    entries = rows if len(rows) > 1 else rows[0].split("&") if rows else []
    if len(entries) < 2 or any("&" in entry or "," in entry for entry in entries):
        return None
    return f"({','.join(entries)})"
