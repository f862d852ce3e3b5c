"""Commands are called as the console script calls them, in this process."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

pytest.importorskip("ray")

from sfpo_rllib.commands.app import main


class Called(NamedTuple):
    """What a call leaves."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that it ends with, without the command's name."""
        (line,) = self.err.splitlines()
        assert self.status == 2 and line.startswith("sfpo-rllib: "), self
        return line.removeprefix("sfpo-rllib: ")


Call = Callable[..., Called]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("train", "config.yaml")`."""
    # What a config makes importable is not any more after its test.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))

    def call(*arguments: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["sfpo-rllib", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Called(ended.value.code, *capsys.readouterr())

    return call
