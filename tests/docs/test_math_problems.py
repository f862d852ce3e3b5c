"""docs/math_problems.md runs, and lists what there is."""

import inspect
import re
from unittest.mock import MagicMock

import gymnasium
import pytest
from repository import ROOT
from sfpo_envs import MathReasoningEnv
from sfpo_envs.problems.eval_sets import EVAL_SETS
from sfpo_envs.prompts import MATH_PROMPTS
from sfpo_envs.rewards import REWARDS

PAGE = (ROOT / "docs" / "math_problems.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below a heading that begins so, without the back ticks."""
    rows = PAGE.split(f"\n| {heading}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the page's code defines."""
    monkeypatch.chdir(tmp_path)
    names = {"config": MagicMock()}
    for block in BLOCKS:
        exec(block, names)
    return names


def test_its_code_makes_environments_that_grade(names):
    env = names["env"].unwrapped
    assert env.num_problems == 80 and names["info"]["verdict"] in ("correct", "wrong")
    prompt, answer = env.problem(0)
    env.reset(seed=0)
    assert env.step(f"\\boxed{{{answer}}}")[1] == 1.0
    assert "squared?" in prompt == names["prompt"]

    options = names["config"].environment.call_args.kwargs["env_config"]
    evaluation = names["config"].evaluation.call_args.kwargs
    override = evaluation["evaluation_config"]["env_config"]
    train, test = MathReasoningEnv(**options), MathReasoningEnv(**options | override)
    assert (train.num_problems, test.num_problems) == (80, evaluation["evaluation_duration"])

    for config, worth in ((names["by_verdict"], -0.5), (names["by_function"], 0.0)):
        env = gymnasium.make("sfpo/MathReasoning-v0", **config)
        env.reset(seed=0)
        assert env.step("no idea")[1] == worth


def test_its_options_exist_and_none_is_missing(names):
    known = set(inspect.signature(MathReasoningEnv).parameters) - {"unknown", "shuffle_seed"}
    assert set(names["verl"]) | set(names["gsm8k"]) <= known
    assert {name for name in known if f"`{name}" not in PAGE} == set()
    in_table = {name for row in table("option ") for name in re.findall(r"\w+", row[0])} - {"or"}
    assert in_table <= known


def test_its_tables_are_what_there_is():
    assert table("name | on the hub") == [
        [name, str(each.hub), "`, `".join(each.files)] for name, each in EVAL_SETS.items()
    ]
    assert {row[0]: row[2] for row in table("name | asks for")} == {
        name: prompt.extraction for name, prompt in MATH_PROMPTS.items()
    }
    assert {name: [float(each) for each in cells] for name, *cells in table("`reward`")} == {
        name: [pays.get(each, 0.0) for each in ("correct", "wrong", "crashed")]
        for name, pays in REWARDS.items()
    }
