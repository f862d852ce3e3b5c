"""The checker: environments of ours pass it, and one broken environment of each kind is caught."""

import contextlib
import json
import logging
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import sfpo_envs
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from sfpo_envs import (
    ChatMessages,
    Finding,
    Findings,
    Problem,
    SingleTurnEnv,
    UnicodeText,
    check_text_env,
)
from sfpo_envs.__main__ import main
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


class Fine(gymnasium.Env):
    """Asks for a digit again and again, up to three times; nothing is wrong with it."""

    def __init__(self, **options: Any) -> None:
        self.observation_space: gymnasium.Space = UnicodeText(1000)
        self.action_space: gymnasium.Space = UnicodeText(1000)
        self._digit: int | None = None
        self._turn = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._digit, self._turn = int(self.np_random.integers(10)), 0
        return self.shown(), {}

    def shown(self) -> Any:
        return f"Say {self._digit}."

    def reward(self, action: str) -> Any:
        return float(action == str(self._digit))

    def info(self, action: str) -> Any:
        return {"is_success": action == str(self._digit), "metrics": {"length": len(action)}}

    def step(self, action: str) -> Any:
        if self._digit is None:
            raise RuntimeError("call reset() first")
        self._turn += 1
        reward, over = self.reward(action), self._turn == 3 or action == str(self._digit)
        observation, info = self.shown(), self.info(action) if over else {}
        if over:
            self._digit = None
        return observation, reward, over, False, info


class NotAnEnv:
    """Has the methods, but is none."""

    reset, step = Fine.reset, Fine.step


class FourTuple(Fine):
    def step(self, action):
        return super().step(action)[:4]


class BareReset(Fine):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class NoSeed(Fine):
    def reset(self):
        return super().reset(seed=0)


class SaysNothing(Fine):
    def shown(self):
        return " \n"


class NumbersSpace(Fine):
    def __init__(self):
        super().__init__()
        self.observation_space = gymnasium.spaces.Discrete(10)

    def shown(self):
        return self._digit


class ChoiceSpace(Fine):
    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Discrete(10)


class LettersOnly(Fine):
    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Text(1000)


class NoSpaces(Fine):
    def __init__(self):
        pass


class TooLong(Fine):
    def shown(self):
        return "x" * 2000


class Surrogate(Fine):
    def shown(self):
        return f"Say \udc80 and {self._digit}"


class OddMessages(Fine):
    def __init__(self):
        super().__init__()
        self.observation_space = ChatMessages(1000)

    def shown(self):
        return [{"role": "human", "content": f"Say {self._digit}."}]


class ArrayReward(Fine):
    def reward(self, action):
        return np.ones(1)


class NanReward(Fine):
    def reward(self, action):
        return float("nan")


class HugeReward(Fine):
    def reward(self, action):
        return 100.0


class IntSuccess(Fine):
    def info(self, action):
        return {"is_success": 1}


class TextMetrics(Fine):
    def info(self, action):
        return {"metrics": {"reply": action}}


class SometimesSuccess(Fine):
    def info(self, action):
        return {"is_success": True} if action == str(self._digit) else {}

    def step(self, action):
        self._digit = 1 if self._digit is not None else None
        return super().step(action)


class GlobalRandom(Fine):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._digit = random.randrange(10**9)
        return self.shown(), {}


class SeedsGlobalRandom(Fine):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        random.seed(seed)
        self._digit = random.randrange(10)
        return self.shown(), {}


class RemembersEpisodes(Fine):
    _number = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._number += 1
        return f"{self.shown()} This is episode {self._number}.", {}


class RandomReward(Fine):
    def reward(self, action):
        return random.random()


class SharedProblem(Fine):
    """Keeps the problem where all instances see it."""

    current: dict[str, Any] = {}  # noqa: RUF012  (this is what is wrong)

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self.current["digit"] = self._digit
        return observation, info

    def reward(self, action):
        return float(action == str(self.current["digit"]))


class Novelty(Fine):
    """Pays less for what others have said."""

    said: list[str] = []  # noqa: RUF012  (this is what is wrong)

    def reward(self, action):
        self.said.append(action)
        return 1.0 / self.said.count(action)


class IgnoresSeed(Fine):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=0)
        return self.shown(), {}


class Evaluates(Fine):
    def reward(self, action):
        return float(int(action) == self._digit)


class TakesAnything(Fine):
    def info(self, action):
        return {"is_success": True}


class Endless(Fine):
    def step(self, action):
        return self.shown(), 0.0, False, False, {}


class PaysAfterTheEnd(Fine):
    def step(self, action):
        return self.shown(), 0.5, True, False, {}


class Slow(Fine):
    def step(self, action):
        time.sleep(0.003)
        return super().step(action)


class WithReplacement(SingleTurnEnv):
    """Draws a problem for each seed."""

    num_problems = 40

    def problem(self, seed):
        return self._problem_at(int(np.random.default_rng(seed).integers(40)))

    def _problem_at(self, index):
        return Problem(f"Say {index}.", str(index))

    def _grade(self, reply, answer):
        return float(reply == answer), {"is_success": reply == answer}


class Duplicates(WithReplacement):
    """Has every problem twice."""

    problem = SingleTurnEnv.problem

    def _problem_at(self, index):
        return super()._problem_at(index // 2)


class LeakySplit(WithReplacement):
    """Takes a split and does not care."""

    problem = SingleTurnEnv.problem

    def __init__(self, split="train"):
        super().__init__(shuffle_seed=split == "test")


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


class Exits(Fine):
    def step(self, action):
        raise SystemExit("done")


class HoldsALock(Fine):
    def info(self, action):
        return super().info(action) | {"lock": threading.Lock()}


BROKEN = [
    # environment, severity, check, what is seen, what to change
    (NotAnEnv, "error", "kind", "a NotAnEnv, not a gymnasium.Env", "subclass gymnasium.Env"),
    (FourTuple, "error", "step", "returned \\('Say", "terminated, truncated and info"),
    (BareReset, "error", "reset", "returned 'Say", "the observation and a dictionary"),
    (NoSeed, "error", "reset", "unexpected keyword argument 'seed'", "take any seed"),
    (Exits, "error", "step", "raised SystemExit", "take any text"),
    (HoldsALock, "error", "info", "\\['is_success', 'lock', .*cannot be pickled", "plain data"),
    (SaysNothing, "error", "reset", "nothing to reply to", "problem into the first observation"),
    (NumbersSpace, "error", "spaces", "observation_space is Discrete\\(10\\)", "UnicodeText"),
    (ChoiceSpace, "error", "spaces", "action_space is Discrete\\(10\\)", "UnicodeText"),
    (LettersOnly, "error", "spaces", "action_space does not admit ''", "UnicodeText"),
    (NoSpaces, "error", "spaces", "observation_space is None", "UnicodeText"),
    (TooLong, "error", "observation", r"xxx\.\.\. \(2002 characters\), which is not in", "admits"),
    (Surrogate, "error", "observation", "a lone surrogate", "errors='replace'"),
    (OddMessages, "error", "observation", "'human'", "chat messages"),
    (ArrayReward, "error", "reward", r"array\(\[1.\]\)", "return a float"),
    (NanReward, "error", "reward", "the reward is nan", "finite number"),
    (HugeReward, "error", "reward", r"100.0, outside \[-1.0, 1.0\]", "reward_range"),
    (IntSuccess, "error", "info", "info\\['is_success'\\] is 1", "a bool"),
    (TextMetrics, "error", "info", "'reply': '1'", "finite numbers only"),
    (SometimesSuccess, "warning", "info", "after some episodes only", "into each"),
    (GlobalRandom, "error", "determinism", "in one fresh environment and", "self.np_random"),
    (SeedsGlobalRandom, "warning", "determinism", "generator .* has moved", "self.np_random"),
    (RemembersEpisodes, "error", "determinism", "after other episodes", "anew in reset"),
    (RandomReward, "error", "determinism", "two episodes of seed 0 differ", "self.np_random"),
    (SharedProblem, "error", "group", "alone, and", "in the instance"),
    (Novelty, "error", "group", "beside other environments", "in the instance"),
    (IgnoresSeed, "warning", "variety", "all of 16 seeds show", "self.np_random"),
    (Evaluates, "error", "step", "raised ValueError", "take any text"),
    (TakesAnything, "warning", "garbage", r"\(nothing\) to seed 0 is a success", "only right"),
    (Endless, "error", "end", "goes on after 64 turns", "sfpo_envs.TurnLimit"),
    (PaysAfterTheEnd, "error", "end", "after the end earns 0.5", "raise there"),
    (WithReplacement, "error", "epoch", "do not show the same 40 problems", "one to one"),
    (Duplicates, "warning", "epoch", "20 of 20 problems come again", "duplicates"),
    (LeakySplit, "error", "split", "40 of 40 test problems", "let a problem's text"),
]


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


class Hangs(Fine):
    """In a loop, in a wait, and in one that catches what is raised in it."""

    def __init__(self, how: str, where: str = "step") -> None:
        super().__init__()
        if where == "init":
            self.hang(how)
        self.how = how

    def hang(self, how: str) -> None:
        while how == "loop":
            pass
        if how == "wait":
            time.sleep(1000)
        if how == "pattern":
            re.match("(a*)*b", "a" * 40)
        for _ in range(3):
            with contextlib.suppress(BaseException):
                time.sleep(1000)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        self.hang(self.how)
        return "", 0.0, True, False, {}


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


# The command.


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
    assert set(OURS) <= set(listed)
    assert (
        listed["sfpo/Arithmetic-v0"] == "Problems such as ``12+39=``, answered by the bare number."
    )
    assert sfpo_envs.ArithmeticEnv.__doc__ is not None
