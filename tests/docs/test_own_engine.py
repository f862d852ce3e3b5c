"""The page on engines: the scripted one plays and trains an environment, and says what it may."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from repository import ROOT

pytest.importorskip("ray")

from sfpo_rllib.env_runners.engines import RolloutEngine
from sfpo_rllib.testing import ScriptedEngine

PAGE = (ROOT / "docs" / "own_engine.md").read_text()
ENGINE, CONFIG = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the page's code defines, as in a notebook."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(ENGINE, names)
    exec(CONFIG, names)
    return names


def test_the_engine_on_the_page_is_the_one_in_the_package() -> None:
    assert inspect.getsource(ScriptedEngine) in ENGINE


def test_the_class_methods_in_the_table_are_those_there_are() -> None:
    listed = re.findall(r"`(\w+)\(", PAGE.split("| class method")[1].split("\n\n")[0])
    there = [name for name, value in vars(RolloutEngine).items() if type(value) is classmethod]
    assert listed == there


def test_a_script_is_played_in_its_order_and_judged_by_the_environment(
    page: dict[str, Any], running: Callable[[Any], Any]
) -> None:
    config = page["config"].debugging(seed=0)
    algo = running(config.build_algo())
    result = algo.evaluate()["env_runners"]
    replies = config.engine_kwargs["replies"]
    rewards = []
    for number in range(64):  # the evaluation's problems are those of the seeds 0, 1, 2 and so on
        env = gymnasium.make(config.env, **config.env_config)
        env.reset(seed=number // 8)
        rewards.append(env.step(replies[number % len(replies)])[1])
    assert 0 < sum(rewards) < 64
    assert result["episode_return_mean"] == pytest.approx(sum(rewards) / 64)
    assert result["accuracy"] == pytest.approx(sum(rewards) / 64)

    before = algo.get_module_weights()
    learned = algo.train()["learners"]["default_policy"]["sfpo"]
    assert learned["refused_batches_lifetime"] == 1  # the script is not the policy's
    assert all((before[name] == value).all() for name, value in algo.get_module_weights().items())
