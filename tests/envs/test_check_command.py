"""`sfpo-rllib envs`: checks an environment, shows it, and lists what there is."""

import json
import re
import subprocess
import sys

import gymnasium
import pytest
import sfpo_envs
from broken_envs import Fine
from sfpo_envs.__main__ import main


def test_the_command_finds_nothing_wrong_with_ours(capsys):
    assert main(["check", "sfpo/Arithmetic-v0", "--config", '{"num_digits": 3}']) == 0
    assert "sfpo/Arithmetic-v0: 0 errors" in capsys.readouterr().out


def test_the_command_fails_on_errors_and_takes_options(capsys):
    command = ["check", "sfpo/Arithmetic-v0", "--seeds", "4", "--reward-range", "0", "0.5"]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "error: reward: step('" in out and "change: " in out
    assert "sfpo/Arithmetic-v0: 1 errors" in out


def test_the_command_shows_problems_with_replies_and_what_they_earn(capsys):
    assert main(["check", "sfpo/Calculator-v0", "--seeds", "2", "--show", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["errors"], result["findings"]) == (0, [])
    assert [episode["seed"] for episode in result["episodes"]] == [0, 1]
    for episode in result["episodes"]:
        assert "Calculate" in episode["problem"] and "<answer>" in episode["reply"]
        assert (episode["reward"], episode["is_success"]) == (1.0, True)
    assert main(["check", "sfpo/Arithmetic-v0", "--seeds", "2", "--show", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"seed 0\n    \d+\+\d+=\n  reply '\d+': reward 1, success\n", out)


def test_the_command_shows_what_it_can_of_a_broken_environment(capsys, monkeypatch):
    class Breaks(Fine):
        def step(self, action):
            raise KeyError(action)

    monkeypatch.setitem(
        gymnasium.registry,
        "Breaks-v0",
        gymnasium.envs.registration.EnvSpec("Breaks-v0", entry_point=Breaks),
    )
    assert main(["check", "Breaks-v0", "--seeds", "2", "--show", "1"]) == 1
    assert "  reply '1': broken: step('1') raised KeyError('1')" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--show", "-1", "an integer >= 0"),
        ("--show", "many", "an integer >= 0"),
        ("--seeds", "0", "an integer >= 1"),
        ("--seeds", "1.5", "an integer >= 1"),
        ("--max-turns", "-3", "an integer >= 1"),
        ("--call-limit", "0", "a number > 0"),
        ("--call-limit", "nan", "a number > 0"),
        ("--call-limit", "inf", "a number > 0"),
    ],
)
def test_the_command_refuses_numbers_out_of_range_in_one_line(option, value, what, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", "sfpo/Arithmetic-v0", f"{option}={value}"], "sfpo-rllib envs")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sfpo-rllib envs check: ") and f"{value!r}: must be {what}" in line


@pytest.mark.parametrize("config", ["{", "[1]"])
def test_the_command_refuses_a_config_that_is_no_json_object(config, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", "sfpo/Arithmetic-v0", "--config", config])
    assert stopped.value.code == 2
    assert "JSON" in capsys.readouterr().err


def test_the_command_lists_what_there_is():
    done = subprocess.run(
        [sys.executable, "-m", "sfpo_envs", "list"], capture_output=True, text=True, check=True
    )
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    ours = {name for name in gymnasium.registry if name.startswith("sfpo/")}
    assert ours <= set(listed)
    assert (
        listed["sfpo/Arithmetic-v0"] == "Problems such as ``12+39=``, answered by the bare number."
    )
    assert sfpo_envs.ArithmeticEnv.__doc__ is not None
