import sys

import pytest
import typer

from sfpo_rllib.commands import app as commands
from sfpo_rllib.commands.output import CommandError, print_json


def test_what_the_user_has_to_mend_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def fails() -> None:
        raise CommandError("lr='high': must be a number")

    monkeypatch.setattr(commands, "app", app)
    monkeypatch.setattr(sys, "argv", ["sfpo-rllib"])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "sfpo-rllib: lr='high': must be a number\n"


def test_json_has_no_value_that_is_none_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"accuracy": 0.5})
    assert capsys.readouterr().out == '{\n  "accuracy": 0.5\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        print_json({"accuracy": float("nan")})
