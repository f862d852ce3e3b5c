"""Fields of a row by name, nested ones by a dotted path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

MISSING: Any = object()
"""What :func:`field_of` returns where there is no such field."""


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


def text_of(value: Any) -> str | None:
    """Return a string without white space around it, a number as text, of all else ``None``.

    Whole numbers have no decimals, whatever their type: Parquet files have 142.0 for 142.
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, (float, Decimal)) or not math.isfinite(value):
        return None
    return str(int(value)) if value == int(value) else str(value)
