import sys

import pytest
import typer

from sfpo_rllib.commands import app as commands
from sfpo_rllib.commands.output import CommandError, in_few_lines, print_json


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SFPOConfig: invalid settings\nlr=1: no", "lr=1: no"),
        ("SFPOConfig: invalid settings\nlr=1: no\nseed=2: no\n", "lr=1: no\n  seed=2: no"),
        (
            "Too few CPUs; ask for fewer:\nCPU=41: there are 2",
            "Too few CPUs; ask for fewer: CPU=41",
        ),
        (
            "folder='x': holds another:\nlr=1: must be 2",
            "folder='x': holds another: lr=1: must be 2",
        ),
        ("a.yaml: lrr=1: no\nsed=2: no", "a.yaml: lrr=1: no\n  sed=2: no"),
        ("sampling['k']=1: no\nm['l']['r']=2: no", "sampling['k']=1: no\n  m['l']['r']=2: no"),
        ("folder='x': holds another\na=1: b\nc=2: d", "folder='x': holds another\n  a=1: b\n  c=2"),
        ("", "ValueError"),
    ],
)
def test_one_thing_that_is_wrong_is_one_line_and_several_are_one_each(text: str, said: str) -> None:
    assert in_few_lines(ValueError(text)).startswith(said)
