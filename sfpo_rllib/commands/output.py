"""What commands share: errors in one line, and results as text or JSON."""

import json
from typing import Annotated, Any

import typer

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")
]


class CommandError(Exception):
    """What the user has to mend, said in one line."""


def print_json(result: Any) -> None:
    """Prints what a program reads: one JSON value on stdout."""
    print(json.dumps(result, indent=2, default=str, allow_nan=False))
