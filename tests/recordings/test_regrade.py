"""Recorded replies that are judged again."""

import json
from pathlib import Path
from typing import Any

import pytest
from recorded import ends_in_zero, group
from sfpo_envs import plugins
from typer.testing import CliRunner

from sfpo_rllib.commands import rollouts
from sfpo_rllib.commands.output import CommandError
from sfpo_rllib.recordings import RolloutStore
from sfpo_rllib.recordings.regrade import regrade

ENV = "sfpo_envs:sfpo/Arithmetic-v0"
ABOUT = {"env": ENV, "env_name": ENV, "env_config": {"num_digits": 2, "split": "train"}}


def make_rows(replies: list[str]) -> list[dict[str, Any]]:
    problem = plugins.make(ENV, **ABOUT["env_config"]).unwrapped.problem  # type: ignore[arg-type]
    rows = group(5, len(replies), skill=0.5)
    prompt, answer = problem(5)
    for row, reply in zip(rows, replies, strict=True):
        reply = reply.format(answer=answer)
        message = {"turn": -1, "start": 0, "end": 0}
        row["messages"] = [
            {"role": "user", "content": prompt, **message},
            {"role": "assistant", "content": reply, **message, "turn": 0},
        ]
        row |= {"is_success": float(reply == answer), "verdict": None}
    return rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = make_rows(["{answer}", "{answer}.0", "so {answer}", "none"])
    RolloutStore(tmp_path).write("training", 1, rows, ABOUT)
    RolloutStore(tmp_path).write("evaluation", 1, rows[:1], ABOUT)
    return tmp_path


def test_verdicts_that_change_are_counted_and_listed(run: Path) -> None:
    result = regrade(run, "numeric", stage="training")
    assert result.num_episodes == 4 and result.num_correct() == (1, 3)
    assert result.counts == {
        ("correct", "correct"): 1,
        ("wrong", "correct"): 2,
        ("wrong", "no_answer"): 1,
    }
    first, second, third = result.changes
    assert [(c.iteration, c.stage, c.seed) for c in result.changes] == [(1, "training", 5)] * 3
    assert [c.member for c in result.changes] == [1, 2, 3]
    assert first.reply == f"{first.answer}.0" and first.extracted == first.reply
    assert (second.reply, third.reply) == (f"so {first.answer}", "none")
    boxed = regrade(run, "numeric", settings={"extraction": "boxed"})
    assert boxed.num_episodes == 5 and boxed.num_correct() == (2, 0)
    assert regrade(run, ends_in_zero, stage="training").num_correct() == (1, 1)


def test_the_command_prints_tables_or_json(run: Path) -> None:
    call = CliRunner().invoke
    text = call(rollouts.app, ["regrade", str(run), "--grader", "numeric", "--show", "1"])
    assert text.exit_code == 0
    assert "5 episodes: 2 correct as recorded, 4 by numeric; 3 verdicts change" in text.output
    assert "and 2 more; --json has all" in text.output
    own = ["regrade", str(run), "--grader", "recorded:ends_in_zero", "--json"]
    result = json.loads(call(rollouts.app, own).stdout)
    assert (result["episodes"], result["correct_before"], result["correct_after"]) == (5, 2, 1)
    assert len(result["changed"]) == 3 and result["grader"] == "recorded:ends_in_zero"
    assert {"before", "after", "extracted", "answer", "reply"} <= result["changed"][0].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--grader", "nmeric"], "did you mean 'numeric'"),
        (["--grader", "nowhere:grade"], "grader='nowhere:grade': cannot be imported"),
        (["--grader", "exact", "--set", "x=1"], "no setting of grader 'exact'"),
        (["--grader", "exact", "--set", "x"], "set='x': must be KEY=VALUE"),
        (["--grader", "exact", "--stage", "evaluations"], "stage='evaluations'"),
        (["--grader", "exact", "--env-config", "[]"], "env_config=[]: must be a JSON object"),
        (["--grader", "exact", "--env-config", '{"split": "test"}'], "that was recorded"),
        (["--grader", "exact", "--env", "no/Such-v0"], "env='no/Such-v0': could not be made"),
    ],
)
def test_what_cannot_be_is_one_line(run: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(rollouts.app, ["regrade", str(run), *options])
    assert isinstance(result.exception, CommandError)
    assert message in str(result.exception)


def test_an_answer_may_stand_in_the_recorded_info(tmp_path: Path) -> None:
    rows = make_rows(["1", "2"])
    for row in rows:
        row["info"] = '{"answer": 2}'
    about = {"env": None, "env_name": "my_env", "env_config": {}}
    RolloutStore(tmp_path).write("training", 1, rows, about)
    assert regrade(tmp_path, "exact").num_correct()[1] == 1
    for row in rows:
        row["info"] = "{}"
    RolloutStore(tmp_path).write("training", 1, rows, about)
    with pytest.raises(ValueError, match="env='my_env': must be the id"):
        regrade(tmp_path, "exact")
