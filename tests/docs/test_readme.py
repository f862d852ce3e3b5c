"""The README says what the code does and what was measured."""

import codeop
import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from repository import ROOT

README = (ROOT / "README.md").read_text()
TWENTY_LINES, MY_TASKS, SWAP, SWEEP, RESTORE, RUN, ON_GPUS = re.findall(
    r"```python\n(.*?)```", README, flags=re.DOTALL
)


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


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a session has defined that was started in a folder of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    monkeypatch.delenv("RAY_AIR_NEW_OUTPUT", raising=False)
    return {}


def test_blocks_run_one_after_the_other_in_one_session(
    session: dict[str, Any],
    ray_cluster: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "1")  # put back afterwards
    exec(TWENTY_LINES, session)
    assert (tmp_path / "my_model" / "config.json").exists()
    assert len(capsys.readouterr().out.splitlines()) == 2
    (tmp_path / "my_tasks.py").write_text(MY_TASKS)
    exec(SWAP, session)
    assert session["config"].env == "my_tasks:my/Reverse-v0"
    assert 0.0 <= float(capsys.readouterr().out) <= 1.0

    sweep, rest = SWEEP.split("best = ")
    exec(sweep, session)
    space = session["sweep"]._local_tuner.param_space
    assert space["reposition_alpha"] == {"grid_search": [0.5, 0.8]}
    assert "get_best_result" in rest and "Tuner.restore" in RESTORE

    exec(RUN, session)  # with the config of before the sweep
    rows = (tmp_path / "runs" / "reverse" / "progress.csv").read_text().splitlines()
    assert len(rows) == 1 + 4


@pytest.mark.parametrize("block", [TWENTY_LINES, SWAP, SWEEP, RESTORE, RUN, ON_GPUS])
def test_a_block_can_be_pasted_into_pythons_own_shell(block: str) -> None:
    pending: list[str] = []
    for line in [*block.splitlines(), ""]:
        pending.append(line)
        # A loop ends at an empty line there: what follows one at once is a SyntaxError.
        if codeop.compile_command("\n".join(pending), symbol="single") is not None:
            pending = []
    assert pending == []


def test_the_example_for_gpus_makes_a_config(session: dict[str, Any]) -> None:
    exec(TWENTY_LINES.split("algo = ")[0], session)
    exec(ON_GPUS, session)
    config = session["config"]
    assert config.preset == "paper"
    assert config.total_train_batch_size == 2048


def test_the_environment_example_is_a_text_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    names: dict = {}
    exec(MY_TASKS, names)
    env = names["Reverse"]()
    prompt, _ = env.reset(seed=3)
    assert env.reset(seed=3)[0] == prompt, "the seed determines the problem"
    word = prompt.removeprefix("Write ").removesuffix(" backwards.")
    assert env.step(word[::-1])[1] == 1.0
    assert env.step("no")[1] == 0.0
