"""The page on environments: its code runs, and it names what there is."""

import inspect
import re

import gymnasium
import pytest
import sfpo_envs
from repository import ROOT

PAGE = (ROOT / "docs" / "environments.md").read_text()
OURS, *_ = PAGE.split("## Environments of other packages")


def test_the_environments_in_the_docs_are_those_there_are():
    listed = re.findall(r"^\| `(sfpo/[\w-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in gymnasium.registry if name[:5] == "sfpo/")


@pytest.mark.parametrize("env", ["ReasoningGymEnv", "CountdownEnv", "CalculatorEnv"])
def test_the_options_that_are_said_to_be_shared_are(env):
    table = PAGE.split("share these options")[1].split("**ReasoningGym")[0]
    parameters = inspect.signature(getattr(sfpo_envs, env)).parameters
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", table, re.MULTILINE)
    defaults = {
        name: value
        for names, values in rows
        for name, value in zip(re.findall(r"`(\w+)`", names), values.split(", "), strict=True)
    }
    assert len(defaults) == 6
    for name, value in defaults.items():
        assert parameters[name].default == eval(value.strip("`"))


def test_the_code_runs():
    pytest.importorskip("ray")
    pytest.importorskip("reasoning_gym")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", OURS, re.DOTALL):
        exec(block, names)
    assert re.fullmatch(r"\d [+-] \d=", names["prompt"])
    env_config = names["config"].env_config
    assert gymnasium.make(names["config"].env, **env_config).reset(seed=0)[0]
    evaluated = names["config"].evaluation_config["env_config"]
    assert (
        gymnasium.make(names["config"].env, **env_config | evaluated).unwrapped.num_problems == 100
    )
