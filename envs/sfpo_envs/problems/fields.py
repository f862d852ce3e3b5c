"""Fields of a row by name, nested ones by a dotted path."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

MISSING: Any = object()
"""What :func:`field_of` returns where there is no such field."""

# These never carry meaning in a text, unlike the joiners, which Persian and emoji need.
_NOTHING = re.compile("[\u200b\u2060\ufeff]")
_AT_ENDS = "".join(
    map(chr, [0xAD, *range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
)


def field_of(row: Mapping[str, Any], name: str) -> Any:
    """Return a field of a row.

    Args:
        row: The row.
        name: A key, or keys and list positions with dots between, as ``"answers.0.text"``.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and part.isdecimal()
            and int(part) < len(value)
        ):
            value = value[int(part)]
        else:
            return MISSING
    return value


def field_names(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of a row's fields, those of nested objects too."""
    for key, value in row.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from field_names(value, f"{prefix}{key}.")


def visible(text: str) -> str:
    """Return a text without space around it, byte order marks and characters without a width."""
    text = _NOTHING.sub("", text).strip()
    while text and (text[0] in _AT_ENDS or text[-1] in _AT_ENDS):
        text = text.strip(_AT_ENDS).strip()
    return text


def is_null(value: Any) -> bool:
    """Return whether a field is missing, null or not a number, as pandas writes nulls."""
    return (
        value is None
        or value is MISSING
        or (isinstance(value, (float, Decimal)) and value != value)
    )


def text_of(value: Any) -> str | None:
    """Return a string as far as it is visible, a number as text, of all else ``None``.

    Whole numbers have no decimals, whatever their type: Parquet files have 142.0 for 142.
    """
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, (float, Decimal)) or not math.isfinite(value):
        return None
    return str(int(value)) if value == int(value) else str(value)
