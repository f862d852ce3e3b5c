"""The README says what the code does and what was measured."""

import json
import re
from pathlib import Path

import gymnasium as gym
import pytest
from repository import ROOT

from sfpo_rllib.env_runners.text_envs import make_text_env

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_numbers_of_the_quickstart_are_those_of_the_committed_result() -> None:
    result = json.loads((ROOT / "docs" / "quickstart.json").read_text())
    for text in (
        f"{result['accuracy_before']:.3f}",
        f"{result['accuracy_after']:.3f}",
        f"{result['iterations']} iterations",
        f"{result['rollouts']:,} rollouts",
        f"{result['wall_seconds']:.0f} s",
    ):
        assert text in README, f"{text} is not in the README"
    assert result["sfpo_active_iterations"] == result["iterations"]


def test_the_python_example_makes_a_config() -> None:
    names: dict = {}
    exec(BLOCKS[0].split("algo = ")[0], names)
    config = names["config"]
    assert config.preset == "paper"
    assert config.total_train_batch_size == 2048


def test_the_two_examples_in_a_row_make_a_config_of_the_second_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {}
    exec(BLOCKS[0].split("algo = ")[0], names)
    module, line = BLOCKS[1].rsplit("config.", 1)
    (tmp_path / "my_tasks.py").write_text(module)
    exec(f"config.{line}", names)
    config = names["config"]
    assert make_text_env(config.env, config.env_config).reset(seed=0)[0].startswith("Write ")


def test_the_environment_example_is_a_text_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    names: dict = {}
    exec(BLOCKS[1].split("gym.register")[0], names)
    env = names["Reverse"]()
    prompt, _ = env.reset(seed=3)
    assert env.reset(seed=3)[0] == prompt, "the seed determines the problem"
    word = prompt.removeprefix("Write ").removesuffix(" backwards.")
    assert env.step(word[::-1])[1] == 1.0
    assert env.step("no")[1] == 0.0
