"""What commands share: errors in one line, and results as text or JSON."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sfpo_rllib.preflight import Preflight

_PROBLEM = re.compile(r"[\w.]+(\[.+\])*=")  # a field and its value

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")
]


class CommandError(Exception):
    """What the user has to mend, said in one line, or in one for each of several things."""


@contextlib.contextmanager
def mendable() -> Iterator[None]:
    """Makes a `CommandError` of what our checks and the file system refuse."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise CommandError(in_few_lines(error)) from error


def in_few_lines(error: Exception) -> str:
    """An error's text: one line where one thing is wrong, else a line for each."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(("invalid settings", "invalid arguments")):
        return "\n  ".join(lines[1:])
    if len(lines) == 2 and not (_PROBLEM.match(lines[1]) and not lines[0].endswith(":")):
        # What is wrong, and with which value.
        return f"{lines[0].rstrip(':')}: {lines[1]}"
    return "\n  ".join(lines) or type(error).__name__


@contextlib.contextmanager
def stdout_for_json(only: bool) -> Iterator[None]:
    """If `only` is set, what is printed in the body, by whichever process, goes to stderr."""
    if not only:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def json_object(field: str, text: str) -> dict[str, Any]:
    """The value of an option that is a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{field}={text}: must be JSON ({error})") from error
    if not isinstance(value, dict):
        raise CommandError(f'{field}={text}: must be a JSON object, as in {{"num_digits": 2}}')
    return value


def end_if_it_does_not_fit(memory: Preflight) -> None:
    """Says what does not fit; that ends with exit code 1, but on a host, which may swap."""
    misfits = list(memory.problems())
    for misfit in misfits:
        print(f"{'' if memory.enforced else 'may not fit: '}{misfit}", file=sys.stderr)
    if misfits and memory.enforced:
        raise typer.Exit(1)


def print_json(result: Any) -> None:
    """Prints what a program reads: one JSON value on stdout."""
    print(json.dumps(result, indent=2, default=str, allow_nan=False))
