"""Problem sets stored as JSON lines."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sfpo_envs.graders.extraction import MAX_ANSWER_CHARS
from sfpo_envs.single_turn import MAX_TEXT_CHARS

_MAX_PROBLEM_CHARS = MAX_TEXT_CHARS // 2  # leaves the other half of a prompt to its template


@dataclass(frozen=True)
class MathDataset:
    """The problems of one file, in its order.

    Attributes:
        problems: Problem texts.
        answers: Their answers, as they are written in the file; as many as problems.
        num_skipped: Lines dropped because their answer was blank.
    """

    problems: tuple[str, ...]
    answers: tuple[str, ...]
    num_skipped: int


def load_math_dataset(
    path: str | os.PathLike[str],
    problem_field: str = "problem",
    answer_field: str = "answer",
    skip_blank: bool = False,
) -> MathDataset:
    """Read a problem set, once per process for each state of the file.

    Args:
        path: A ``.jsonl`` file, or ``.jsonl.gz``: one object a line, empty lines aside.
        problem_field: Field with the problem, a string.
        answer_field: Field with the answer, a string or a number.
        skip_blank: Drop lines with a blank answer instead of raising.

    Raises:
        ValueError: The file is missing, unreadable or without problems, or a line is not what it
            should be; the message names file and line.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise ValueError(f"dataset={str(path)!r}: must be a file, but there is none at {file}")
    return _load(file, file.stat().st_mtime_ns, problem_field, answer_field, skip_blank)


@lru_cache(maxsize=8)
def _load(
    file: Path, mtime_ns: int, problem_field: str, answer_field: str, skip_blank: bool
) -> MathDataset:
    """Parse the file; ``mtime_ns`` only serves to tell its states apart in the cache."""
    problems: list[str] = []
    answers: list[str] = []
    num_skipped = 0
    for number, line in enumerate(_read(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        row = _parse_line(line, where)
        problem = _field(row, problem_field, where, _MAX_PROBLEM_CHARS)
        answer = _field(row, answer_field, where, MAX_ANSWER_CHARS)
        if not problem:
            raise ValueError(f"{where}: field {problem_field!r} is blank")
        if not answer:
            if not skip_blank:
                raise ValueError(
                    f"{where}: field {answer_field!r} is blank; skip_blank=True drops such lines"
                )
            num_skipped += 1
            continue
        problems.append(problem)
        answers.append(answer)
    if not problems:
        raise ValueError(f"{file}: holds no problems")
    return MathDataset(tuple(problems), tuple(answers), num_skipped)


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from error


def _parse_line(line: str, where: str) -> dict[str, object]:
    try:
        # Numbers stay as they are written: "0.50" is not "0.5", and 10**400 is not infinite.
        row = json.loads(line, parse_int=str, parse_float=str)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: must be a JSON object")
    return row


def _field(row: dict[str, object], name: str, where: str, max_chars: int) -> str:
    if name not in row:
        raise ValueError(
            f"{where}: no field {name!r}, only {', '.join(map(repr, row))}; "
            "problem_field and answer_field name the fields to read"
        )
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{where}: field {name!r} must be a string or a number")
    if len(value) > max_chars:
        raise ValueError(f"{where}: field {name!r} is longer than {max_chars} characters")
    return value.strip()
