"""Plays episodes, and reports whatever in them is not as it must be."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, NamedTuple, NoReturn

import cloudpickle
import gymnasium
import numpy as np

from sfpo_envs.check.call_limit import CallLimit
from sfpo_envs.check.findings import Findings, short
from sfpo_envs.spaces import texts

TextEnv = gymnasium.Env[Any, Any]


class BrokenEnv(Exception):
    """The environment cannot be played on; a finding says why."""


class Step(NamedTuple):
    """What matters of a step."""

    observation: Any
    reward: float
    over: bool
    is_success: bool


@dataclass
class Player:
    """Plays episodes.

    Attributes:
        findings: Where to report.
        reward_range: What rewards are allowed; ``None``: what the environment declares, or [-1, 1].
        max_turns: An episode must be over after so many.
        limit: Of each reset and step.
        reset_seconds: How long each reset took.
        step_seconds: How long each step took, with the reply.
        says_success: Whether final infos had ``is_success``, as far as seen.
    """

    findings: Findings
    reward_range: tuple[float, float] | None
    max_turns: int
    limit: CallLimit = field(default_factory=lambda: CallLimit(math.inf))
    reset_seconds: list[float] = field(default_factory=list)
    step_seconds: list[tuple[float, str]] = field(default_factory=list)
    says_success: set[bool] = field(default_factory=set)

    def reset(self, env: TextEnv, seed: int | None) -> Any:
        """Reset; return the first observation."""
        call = f"reset(seed={seed})"
        started = time.perf_counter()
        try:
            with self.limit.of(call):
                result = env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            self._broken("reset", f"{call} raised {error!r}", "reset must take any seed from 0 on")
        self.reset_seconds.append(time.perf_counter() - started)
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            change = "return the observation and a dictionary"
            self._broken("reset", f"{call} returned {short(result)}", change)
        self._check_observation(env, result[0], call)
        if not any(map(str.strip, texts(result[0]))):
            seen = f"{call} shows {short(result[0])}: a model is given nothing to reply to"
            self.findings.error("reset", seen, "put the problem into the first observation")
        return result[0]

    def step(self, env: TextEnv, reply: str) -> Step:
        """Step with a reply."""
        call = f"step({short(reply)})"
        started = time.perf_counter()
        try:
            with self.limit.of(call):
                result = env.step(reply)
        except (Exception, SystemExit) as error:
            change = "take any text: what cannot be read is a wrong reply, or draws an observation"
            self._broken("step", f"{call} raised {error!r}", change)
        self.step_seconds.append((time.perf_counter() - started, reply))
        if not (isinstance(result, tuple) and len(result) == 5):
            change = "return observation, reward, terminated, truncated and info"
            self._broken("step", f"{call} returned {short(result)}", change)
        observation, reward, terminated, truncated, info = result
        self._check_observation(env, observation, call)
        self._check_reward(env, reward, call)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self.findings.error("step", f"{call}: {name} is {short(flag)}", "return a bool")
        over = bool(terminated) or bool(truncated)
        if not isinstance(info, dict):
            self._broken("step", f"{call}: info is {short(info)}", "return a dictionary as info")
        self._check_info(info, call)
        if over:
            self.says_success.add("is_success" in info)
        return Step(observation, float(reward), over, bool(info.get("is_success", False)))

    def play(self, env: TextEnv, seed: int | None, reply: str) -> list[Step]:
        """Play an episode with one reply to everything; return its steps."""
        self.reset(env, seed)
        steps = [self.step(env, reply)]
        while not steps[-1].over:
            if len(steps) == self.max_turns:
                seen = f"an episode goes on after {len(steps)} turns of {short(reply)}"
                change = "end it after a number of turns, or wrap it in sfpo_envs.TurnLimit"
                self._broken("end", seen, change)
            steps.append(self.step(env, reply))
        return steps

    def _broken(self, check: str, seen: str, change: str) -> NoReturn:
        self.findings.error(check, seen, change)
        raise BrokenEnv(seen)

    def _check_observation(self, env: TextEnv, observation: Any, call: str) -> None:
        space = env.observation_space
        if observation not in space:
            seen = f"{call} shows {short(observation)}, which is not in {short(space)}"
            change = "return strings (or lists of chat messages) that the observation space admits"
            self._broken("observation", seen, change)
        for text in texts(observation):
            try:
                text.encode()
            except UnicodeEncodeError:
                seen = f"{call} shows {short(text)}, which has a lone surrogate"
                change = "no tokenizer takes it: decode input with errors='replace'"
                self.findings.error("observation", seen, change)

    def _check_reward(self, env: TextEnv, reward: Any, call: str) -> None:
        if not isinstance(reward, Real) or isinstance(reward, bool | np.bool_):
            self._broken("reward", f"{call}: the reward is {short(reward)}", "return a float")
        low, high = self.reward_range or declared_range(env)
        reward = float(reward)
        if not math.isfinite(reward):
            seen = f"{call}: the reward is {reward}"
            self.findings.error("reward", seen, "return a finite number: one such ruins a batch")
        elif not low <= reward <= high:
            seen = f"{call}: the reward is {reward}, outside [{low}, {high}]"
            change = "scale it, or declare the range as the environment's attribute reward_range"
            self.findings.error("reward", seen, change)

    def _check_info(self, info: dict[str, Any], call: str) -> None:
        success = info.get("is_success", False)
        if not isinstance(success, bool | np.bool_):
            seen = f"{call}: info['is_success'] is {short(success)}"
            self.findings.error("info", seen, "make it a bool: accuracy is its mean")
        try:
            cloudpickle.loads(cloudpickle.dumps(info))
        except Exception as error:
            seen = f"{call}: info with {sorted(map(str, info))} cannot be pickled: {error!r}"
            self.findings.error("info", seen, "put plain data into it: it travels")
        metrics = info.get("metrics", {})
        if not isinstance(metrics, dict):
            seen = f"{call}: info['metrics'] is {short(metrics)}"
            self.findings.error("info", seen, "make it a dictionary of numbers by name")
            return
        for name, value in metrics.items():
            if not (isinstance(name, str) and isinstance(value, Real) and math.isfinite(value)):
                seen = f"{call}: info['metrics'] has {short(name)}: {short(value)}"
                change = "metrics are averaged: names and finite numbers only, the rest elsewhere"
                self.findings.error("info", seen, change)


def declared_range(env: TextEnv) -> tuple[float, float]:
    """Return the rewards that an environment says it gives, by default [-1, 1]."""
    try:
        low, high = env.get_wrapper_attr("reward_range")
    except AttributeError:
        return -1.0, 1.0
    return float(low), float(high)
