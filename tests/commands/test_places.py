"""Where commands write: on this machine, `~` included, or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which must stay as it is."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


WRITING = {
    "export": ("folder", ["export", "{run}", "{place}"]),
    "evaluate": ("output", ["evaluate", "{model}", "--tasks", "{tasks}", "--output", "{place}"]),
    "rollouts": ("output", ["rollouts", "view", "{run}", "-o", "{place}"]),
    "compare": ("plot", ["compare", "{run}", "{model}", "--plot", "{place}"]),
}


@pytest.mark.parametrize("place", ["", "s3://bucket/x"])
@pytest.mark.parametrize("command", WRITING)
def test_no_command_writes_elsewhere(
    call: Call, tmp_path: Path, tiny_model: Path, empty: Path, command: str, place: str
) -> None:
    tasks = tmp_path / "problems.jsonl"
    tasks.write_text('{"question": "1+1=", "answer": "2"}\n')
    field, arguments = WRITING[command]
    names = {"run": tmp_path, "model": tiny_model, "tasks": tasks, "place": place}
    called = call(*(argument.format(**names) for argument in arguments))
    assert called.line == f"{field}={place!r}: must be a path on this machine"
    assert not [*empty.iterdir()]
