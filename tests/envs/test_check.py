"""The checker: environments of ours pass it, and one broken environment of each kind is caught."""

import json
import logging
import re
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from broken_envs import BROKEN, Fine, Hangs, HugeReward, IgnoresSeed, Slow, WithReplacement
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from sfpo_envs import (
    ChatMessages,
    Finding,
    Findings,
    check_text_env,
)
from sfpo_envs.check.garbage import GARBAGE

# On a busy machine anything may take a while.
PATIENT = {"reset_budget_s": 60.0, "step_budget_s": 60.0}

OURS = sorted(name for name in gymnasium.registry if name.startswith("sfpo/"))


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What an environment of ours needs to be made."""
    name = request.getfixturevalue("name")
    if name == "sfpo/MathReasoning-v0":
        lines = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(40)]
        file = tmp_path / "problems.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return {"dataset": str(file)}
    if name == "sfpo/ReasoningGym-v0":
        pytest.importorskip("reasoning_gym")
        return {"tasks": "chain_sum"}
    return {}


@pytest.mark.parametrize("name", OURS)
def test_every_environment_of_ours_passes(name, config):
    findings = check_text_env(name, config=config)
    assert not findings.errors, "\n".join(map(str, findings))


@pytest.mark.parametrize("name", OURS)
def test_every_environment_of_ours_passes_gymnasiums_own_checker(name, config):
    check_env(gymnasium.make(name, **config).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_every_environment_of_ours_runs_vectorised(name, config, asynchronous):
    def make() -> gymnasium.Env:
        return gymnasium.make(name, **config)

    single, makers = make(), [make, make]
    envs = AsyncVectorEnv(makers, shared_memory=False) if asynchronous else SyncVectorEnv(makers)
    try:
        observations, _ = envs.reset(seed=[7, 8])
        assert list(observations) == [single.reset(seed=7)[0], single.reset(seed=8)[0]]
        _, rewards, _, _, _ = envs.step(("1", "2"))
        assert np.isfinite(rewards).all()
    finally:
        envs.close()


def test_there_is_nothing_wrong_with_what_the_broken_ones_are_made_from():
    assert check_text_env(Fine, **PATIENT) == []
    assert check_text_env(Fine(), **PATIENT) == []


def test_chat_messages_are_fine_too():
    class Chat(Fine):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = ChatMessages(1000)

        def shown(self):
            return [{"role": "user", "content": f"Say {self._digit}."}]

    assert check_text_env(Chat, **PATIENT) == []


@pytest.mark.parametrize(
    ("env", "severity", "check", "seen", "change"),
    BROKEN,
    ids=[each[0].__name__ for each in BROKEN],
)
def test_what_is_broken_is_found(env, severity, check, seen, change):
    findings = check_text_env(env)
    fitting = [f for f in findings if (f.severity, f.check) == (severity, check)]
    assert any(re.search(seen, f.seen) and re.search(change, f.change) for f in fitting), findings
    if severity == "warning":
        assert not findings.errors


def test_what_is_slow_is_a_warning():
    findings = check_text_env(Slow, num_seeds=2, step_budget_s=0.002)
    assert {(f.severity, f.check) for f in findings} == {("warning", "time")}
    assert "a step takes 0.0" in findings[0].seen


def test_garbage_that_takes_long_is_named():
    class Pauses(Fine):
        def step(self, action):
            time.sleep(0.5 if action == GARBAGE["code"] else 0)
            return super().step(action)

    findings = check_text_env(Pauses, num_seeds=2, step_budget_s=0.04)
    assert any("_exit" in f.seen and "give up" in f.change for f in findings)


def test_the_range_of_rewards_can_be_given_or_declared():
    class Declares(HugeReward):
        reward_range = (0, 100)

    assert not check_text_env(HugeReward, reward_range=(0, 100), **PATIENT)
    assert not check_text_env(Declares, **PATIENT)
    assert check_text_env(Declares, reward_range=(0, 1)).errors


def test_one_problem_is_enough_if_it_is_said():
    class One(IgnoresSeed):
        num_problems = 1

    assert not check_text_env(One, **PATIENT)


def test_turns_are_limited_as_asked():
    assert not check_text_env(Fine, max_turns=3).errors
    assert [f.check for f in check_text_env(Fine, max_turns=2).errors] == ["end"]


def test_the_like_is_told_once_with_a_number():
    (finding,) = check_text_env(HugeReward).errors
    assert finding.times > 30
    assert f"(and {finding.times - 1} more like it)" in str(finding)


def test_findings_say_all_there_is_to_say():
    findings = check_text_env(HugeReward, **PATIENT)
    assert isinstance(findings, Findings) and all(isinstance(f, Finding) for f in findings)
    assert findings.errors == list(findings) and findings.warnings == []
    with pytest.raises(ValueError, match=r"error: reward: .*\n +change: scale it"):
        findings.raise_if_errors()
    check_text_env(Fine).raise_if_errors()


@pytest.mark.parametrize(
    ("env", "config", "message"),
    [
        ("sfpo/Arithmetic-v0", {"num_digits": 0}, "num_digits=0"),
        ("sfpo/Arithmetic-v0", {"digits": 3}, "digits"),
        ("sfpo/Arithmetik-v0", {}, "Arithmetik"),
        ("no_such_module_here:a/B-v0", {}, "no_such_module_here"),
        (WithReplacement, {"x": 1}, "x"),
    ],
)
def test_what_cannot_be_made_is_a_finding(env, config, message):
    (finding,) = check_text_env(env, config=config)
    assert (finding.severity, finding.check) == ("error", "make")
    assert message in finding.seen


def test_no_file_is_left_by_garbage_that_is_code():
    assert "_exit" in GARBAGE["code"]  # this process would not be here any more
    for text in GARBAGE.values():
        text.encode()


@pytest.mark.parametrize("how", ["loop", "wait", "pattern", "caught"])
def test_a_step_that_never_returns_is_an_error_and_ends_the_check(how):
    start = time.monotonic()
    findings = check_text_env(Hangs, config={"how": how}, call_limit_s=0.3)
    assert time.monotonic() - start < 20
    (error,) = findings.errors
    assert (error.check, error.seen) == ("hang", "step('1') has not returned after 0.3 s")


def test_an_environment_whose_making_never_returns_is_an_error():
    config = {"how": "wait", "where": "init"}
    (error,) = check_text_env(Hangs, config=config, call_limit_s=0.3).errors
    assert (error.check, error.seen) == ("hang", "making it has not returned after 0.3 s")


def test_a_ctrl_c_of_the_users_ends_the_check():
    class Interrupts(Fine):
        def step(self, action):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        check_text_env(Interrupts)


def test_in_another_thread_the_check_is_made_without_a_limit():
    found: list[Findings] = []
    thread = threading.Thread(target=lambda: found.append(check_text_env(Fine)))
    thread.start()
    thread.join()
    assert found == [[]]


def test_what_is_logged_of_hostile_replies_is_not_shown_and_all_else_is(caplog):
    class Talks(Fine):
        def step(self, action):
            logging.getLogger("talks").error("read %r", action)
            warnings.warn(action[:10], stacklevel=1)
            return super().step(action)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert check_text_env(Talks, **PATIENT) == []
    read = {record.args[0] for record in caplog.records}
    assert "1" in read and not read & {text for text in GARBAGE.values() if text}
    assert not {str(w.message) for w in warned} & {GARBAGE["code"][:10], GARBAGE["emoji"][:10]}
    assert logging.root.manager.disable == logging.NOTSET
