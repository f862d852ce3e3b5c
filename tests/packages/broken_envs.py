"""Environments with one thing wrong each, and what the checker must say of it."""

import contextlib
import random
import re
import threading
import time
from typing import Any

import gymnasium
import numpy as np
from sfpo_envs import ChatMessages, Problem, SingleTurnEnv, UnicodeText


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


class Exits(Fine):
    def step(self, action):
        raise SystemExit("done")


class HoldsALock(Fine):
    def info(self, action):
        return super().info(action) | {"lock": threading.Lock()}


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
