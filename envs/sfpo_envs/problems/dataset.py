"""Problem sets: their problems and answers, read from the rows of a file or of the hub."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sfpo_envs.graders import EXTRACTORS, check_gold
from sfpo_envs.options import instead
from sfpo_envs.problems.eval_sets import EVAL_SETS, Fields, find_eval_set
from sfpo_envs.problems.fields import MISSING, field_names, field_of, is_null, text_of
from sfpo_envs.problems.rows import HubDataset, LocalFile
from sfpo_envs.spaces import MAX_TEXT_CHARS

MAX_PROBLEM_CHARS = MAX_TEXT_CHARS // 2  # leaves the other half of a prompt to its template
_MAX_SHOWN = 100  # of bad rows
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?<!\.jsonl)(?<!\.json)(?<!\.gz)(?<!\.parquet)")

_SURROGATE = re.compile("[\ud800-\udfff]")

Filters = tuple[tuple[str, bool, tuple[str | None, ...]], ...]
"""Fields, whether they must have none of the values, and these as text, ``None`` for null."""


class _BlankAnswerError(ValueError):
    """A row has no answer, which ``skip_blank`` is for."""


@dataclass(frozen=True, eq=False)
class MathDataset:
    """The problems of one set, in its order.

    Attributes:
        name: Where they are from.
        problems: Problem texts.
        answers: Their answers, as they are written there; as many as problems.
        solutions: Worked solutions, as many as problems; blank where there is none.
        num_skipped: Rows dropped because they had no answer.
    """

    name: str
    problems: tuple[str, ...]
    answers: tuple[str, ...]
    solutions: tuple[str, ...]
    num_skipped: int = 0

    def subset(self, indices: Iterable[int]) -> MathDataset:
        """Return the problems at some positions."""
        indices = list(indices)
        columns = (self.problems, self.answers, self.solutions)
        problems, answers, solutions = (tuple(col[i] for i in indices) for col in columns)
        return MathDataset(self.name, problems, answers, solutions, self.num_skipped)


def load_math_dataset(
    dataset: str | os.PathLike[str],
    *,
    dataset_config: str | None = None,
    dataset_split: str | None = None,
    dataset_revision: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    problem_field: str | None = None,
    answer_field: str | None = None,
    answer_pattern: str | None = None,
    solution_field: str | None = None,
    filters: Mapping[str, Any] | None = None,
    skip_blank: bool = False,
) -> MathDataset:
    """Read a problem set, once per process for each state of a file.

    :class:`~sfpo_envs.math_reasoning.MathReasoningEnv` explains the arguments.

    Raises:
        ValueError: An argument is not what it should be, the set is missing, unreadable or without
            problems, or rows are bad. All bad rows are counted, and the first 100 named by file
            and line.
        ImportError: A package that reads this kind of set is not installed.
    """
    hub_options = (dataset_config, dataset_split, dataset_revision)
    source, fields = _find(dataset, hub_options, data_dir)
    chosen = {
        "problem": problem_field,
        "answer": answer_field,
        "answer_pattern": answer_pattern,
        "solution": solution_field,
    }
    fields = dataclasses.replace(fields, **{k: v for k, v in chosen.items() if v is not None})
    return _load(source, fields, _as_filters(filters or {}), skip_blank)


def _find(
    dataset: str | os.PathLike[str],
    hub_options: tuple[str | None, str | None, str | None],
    data_dir: str | os.PathLike[str] | None,
) -> tuple[LocalFile | HubDataset, Fields]:
    if not isinstance(dataset, (str, os.PathLike)):
        raise ValueError(f"dataset={dataset!r}: must be a path or a name")
    name, path = os.fspath(dataset), Path(dataset).expanduser()
    if path.is_file():
        return LocalFile.at(path), Fields()
    if name in EVAL_SETS:
        return find_eval_set(name, data_dir)
    if path.is_dir():
        return HubDataset(str(path.resolve()), *hub_options), Fields()
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return HubDataset(name, *hub_options), Fields()
    raise ValueError(
        f"dataset={name!r}: must be a file, but there is none at {path.resolve()}; or an id of the "
        f"Hugging Face hub, owner/name; or an evaluation set: {instead(name, EVAL_SETS)}"
    )


def _as_filters(filters: Mapping[str, Any]) -> Filters:
    """Return filters as something that can be hashed."""
    if not isinstance(filters, Mapping):
        raise ValueError(f"filters={filters!r}: must be a dict of field names and values")
    wanted = []
    for field, values in filters.items():
        negated = isinstance(values, Mapping) and set(values) == {"not"}
        chosen = values["not"] if negated else values
        chosen = chosen if isinstance(chosen, (list, tuple, set, frozenset)) else [chosen]
        if not chosen or any(_filter_text(each) is None and not is_null(each) for each in chosen):
            raise ValueError(
                f"filters={{{field!r}: {values!r}}}: must be a string, a number, a bool, None for "
                "null, a list of some, or {'not': what the field must not be}"
            )
        wanted.append((field, negated, tuple(map(_filter_text, chosen))))
    return tuple(wanted)


def _filter_text(value: Any) -> str | None:
    """Return a value as text that is the same for 4, 4.0 and "4"."""
    text = str(value) if isinstance(value, bool) else text_of(value)
    return None if text is None else text.removesuffix(".0")


@lru_cache(maxsize=8)
def _load(
    source: LocalFile | HubDataset, fields: Fields, filters: Filters, skip_blank: bool
) -> MathDataset:
    rows = list(source.rows())
    _check_fields(source, fields, filters, [row for _, row in rows if isinstance(row, dict)])
    pick = _picker(fields.answer_pattern)
    found: list[tuple[str, str, str]] = []
    bad: list[str] = []
    num_skipped = 0
    for where, row in rows:
        if isinstance(row, dict) and not all(_passes(row, *each) for each in filters):
            continue
        try:
            found.append(_read(row, fields, pick))
        except _BlankAnswerError as error:
            num_skipped += skip_blank
            if not skip_blank:
                bad.append(f"{where}: {error}; skip_blank=True drops such rows")
        except ValueError as error:
            bad.append(f"{where}: {error}")
    if bad:
        raise ValueError(_report(bad, len(rows)))
    if not found:
        passing = " that pass the filters" if filters and rows else ""
        raise ValueError(f"{source}: holds no problems{passing}")
    problems, answers, solutions = zip(*found, strict=True)
    return MathDataset(str(source), problems, answers, solutions, num_skipped)


def _read(
    row: dict[str, Any] | str, fields: Fields, pick: Callable[[str], str | None]
) -> tuple[str, str, str]:
    """Return problem, answer and solution of a row.

    Raises:
        _BlankAnswerError: There is no answer.
        ValueError: The row is not what it should be.
    """
    if isinstance(row, str):
        raise ValueError(row)
    problem = _text(row, fields.problem)
    if not problem:
        raise ValueError(f"field {fields.problem!r} is blank")
    if len(problem) > MAX_PROBLEM_CHARS:
        raise ValueError(f"field {fields.problem!r} is longer than {MAX_PROBLEM_CHARS} characters")
    answer = _answer(row, fields, pick)
    return problem, answer, "" if fields.solution is None else _text(row, fields.solution)


def _answer(row: dict[str, Any], fields: Fields, pick: Callable[[str], str | None]) -> str:
    """Return the answer of a row; raises as :func:`_read` does."""
    try:
        answer = _text(row, fields.answer)
    except ValueError as error:
        if is_null(field_of(row, fields.answer)):
            raise _BlankAnswerError(str(error)) from error
        raise
    picked = pick(answer) if answer else ""
    if picked is None:
        raise _BlankAnswerError(
            f"field {fields.answer!r} holds nothing that answer_pattern={fields.answer_pattern!r} "
            "finds"
        )
    if not picked.strip("$ "):
        raise _BlankAnswerError(f"field {fields.answer!r} is blank")
    if fault := check_gold(picked):
        raise ValueError(f"field {fields.answer!r} {fault}")
    return picked


def _text(row: dict[str, Any], name: str) -> str:
    value = field_of(row, name)
    if value is MISSING:
        raise ValueError(f"no field {name!r}, only {', '.join(map(repr, row))}")
    text = text_of(value)
    if text is None:
        kind = type(value).__name__
        raise ValueError(f"field {name!r} must be a string or a number, and is {kind}: {value!r}")
    if surrogate := _SURROGATE.search(text):
        raise ValueError(
            f"field {name!r} holds half a surrogate pair, {surrogate[0]!r}, at character "
            f"{surrogate.start()}: must be Unicode text, as tokenizers read no other"
        )
    return text


def _picker(pattern: str | None) -> Callable[[str], str | None]:
    """Return what finds the answer in its field."""
    if pattern is None:
        return str
    if pattern in EXTRACTORS:
        return EXTRACTORS[pattern]
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"answer_pattern={pattern!r}: must be one of {', '.join(EXTRACTORS)}, or a regular "
            f"expression, and is none: {error}"
        ) from error

    def pick(text: str) -> str | None:
        matches = list(compiled.finditer(text))
        # Its first group, where it has groups.
        return (matches[-1][min(1, compiled.groups)] or "").strip() if matches else None

    return pick


def _passes(row: dict[str, Any], field: str, negated: bool, wanted: tuple[str | None, ...]) -> bool:
    """Return whether a field has one of the values, or is a list with one; or if negated, none."""
    value = field_of(row, field)
    values = value if isinstance(value, (list, tuple)) else [value]
    has_one = any(
        _filter_text(each) in wanted
        for each in values
        if is_null(each) or _filter_text(each) is not None
    )
    return has_one != negated


def _check_fields(
    source: LocalFile | HubDataset, fields: Fields, filters: Filters, rows: list[dict[str, Any]]
) -> None:
    """Raise if a field is in none of the rows, as one that is misspelt."""
    named = [
        ("problem_field", fields.problem),
        ("answer_field", fields.answer),
        ("solution_field", fields.solution),
        *(("filters", field) for field, *_ in filters),
    ]
    for option, field in named:
        if field is None or not rows or any(field_of(row, field) is not MISSING for row in rows):
            continue
        known = dict.fromkeys(name for row in rows for name in field_names(row))
        raise ValueError(
            f"{option}={field!r}: no row of {source} has such a field; {instead(field, known)}"
        )


def _report(bad: list[str], num_rows: int) -> str:
    if len(bad) == 1:
        return bad[0]
    shown = bad[:_MAX_SHOWN]
    what = f"{len(bad)} of {num_rows} rows are bad"
    if len(shown) < len(bad):
        what += f", the first {len(shown)} of them"
    return f"{what}:\n" + "\n".join(shown)
