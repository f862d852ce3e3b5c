"""Rows of a data set: of a file of JSON lines, a Parquet file or a Hugging Face data set."""

from __future__ import annotations

import codecs
import gzip
import importlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfpo_envs.problems.fields import visible

Row = tuple[str, dict[str, Any] | str]
"""Where a row is, for messages, and its fields, or what is wrong with it."""


@dataclass(frozen=True)
class LocalFile:
    """A file in one of its states: JSON lines, gzipped if it ends in ``.gz``, or ``.parquet``."""

    path: Path
    mtime_ns: int
    size: int

    @classmethod
    def at(cls, path: Path) -> LocalFile:
        """Return the file at a path as it is now."""
        path = path.resolve()
        state = path.stat()
        return cls(path, state.st_mtime_ns, state.st_size)

    def __str__(self) -> str:
        return str(self.path)

    def rows(self) -> Iterator[Row]:
        """Yield the rows; empty lines are none.

        Raises:
            ValueError: The file cannot be read.
            ImportError: It is a Parquet file and pyarrow is not installed.
        """
        return self._parquet() if self.path.suffix == ".parquet" else self._json_lines()

    def _json_lines(self) -> Iterator[Row]:
        try:
            data = self.path.read_bytes()
            text = _decoded(gzip.decompress(data) if self.path.suffix == ".gz" else data)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ValueError(f"{self}: cannot be read: {error}") from error
        for number, line in enumerate(text.split("\n"), start=1):
            # Files that were put together have byte order marks within.
            if line := visible(line):
                yield f"{self}, line {number}", _parse_line(line)

    def _parquet(self) -> Iterator[Row]:
        parquet = _import("pyarrow.parquet", f"{self}: a Parquet file")
        try:
            rows = parquet.read_table(self.path).to_pylist()
        except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's derive from these
            raise ValueError(f"{self}: cannot be read: {error}") from error
        for number, row in enumerate(rows, start=1):
            yield f"{self}, row {number}", row


@dataclass(frozen=True)
class HubDataset:
    """A data set that the package ``datasets`` loads, of the Hugging Face hub or of a folder."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return "/".join(filter(None, [self.name, self.config, self.split]))

    def rows(self) -> Iterator[Row]:
        """Yield the rows.

        Raises:
            ValueError: It cannot be loaded, or has several splits and none was chosen.
            ImportError: The package ``datasets`` is not installed.
        """
        what = f"dataset={self.name!r}: there is no such file; a data set of the Hugging Face hub"
        datasets = _import("datasets", what)
        try:
            loaded = datasets.load_dataset(
                self.name, self.config, split=self.split, revision=self.revision
            )
        except Exception as error:  # of many kinds, with the network and the hub behind them
            raise ValueError(
                f"dataset={self.name!r}: there is no such file, and as a data set of the Hugging "
                f"Face hub it cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if isinstance(loaded, Mapping):  # no split was asked for
            if len(loaded) > 1:
                raise ValueError(
                    f"dataset_split=None: {self} has several, choose one of {', '.join(loaded)}"
                )
            (loaded,) = loaded.values()
        for number, row in enumerate(loaded, start=1):
            yield f"{self}, row {number}", row


def _decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 that has a byte order mark, as PowerShell writes it.

    Raises:
        UnicodeDecodeError: It is neither; the reason names the line.
    """
    # JSON begins with an ASCII character, which is a zero byte and another in UTF-16.
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and 0 in data[2:4]:
        return data.decode("utf-16")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        error.reason = f"{error.reason}, in line {line}; must be UTF-8"
        raise


def _parse_line(line: str) -> dict[str, Any] | str:
    try:
        # Numbers stay as they are written: "0.50" is not "0.5", and 10**400 is not infinite.
        row = json.loads(line, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return row if isinstance(row, dict) else "must be a JSON object"


def _import(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{what} needs {package}: pip install 'datasets>=4' pyarrow") from error
