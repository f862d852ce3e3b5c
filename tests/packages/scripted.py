"""An engine that replies by rule, an environment to talk to, and a bench that has both."""

import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)
from sfpo_rllib.env_runners.prompts import PromptFormatter
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob, RolloutResult
from sfpo_rllib.env_runners.text_envs import EnvPool

# The text of a reply, and whether it was cut at max_tokens.
Reply = Callable[[GenerationRequest], tuple[str, bool]]


class ScriptedEngine(RolloutEngine):
    """Replies by rule, one request a step, the newest first.

    The rule is shown requests numbered from 0 in each job, whatever their ids.
    """

    def __init__(self, tokenizer: Any, reply: Reply, max_model_len: int = 100) -> None:
        self.max_model_len = max_model_len
        self._tokenizer = tokenizer
        self._reply = reply
        self.requests: list[GenerationRequest] = []
        self.in_flight: list[GenerationRequest] = []
        self.num_aborts = 0
        self.aborted: list[int] = []  # numbers

    def submit(self, request: GenerationRequest) -> None:
        self.requests.append(request)
        self.in_flight.append(request)

    def step(self) -> list[Completion]:
        request = self.in_flight.pop()
        text, truncated = self._reply(replace(request, request_id=self.number(request)))
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        if not truncated:
            tokens.append(self._tokenizer.eos_token_id)
        logprobs = -np.arange(1, len(tokens) + 1, dtype=np.float32)
        return [Completion(request.request_id, np.array(tokens, np.int32), logprobs, truncated)]

    def number(self, request: GenerationRequest) -> int:
        return [r.request_id for r in self.requests].index(request.request_id)

    def abort(self) -> None:
        self.num_aborts += 1
        self.in_flight.clear()

    def abort_requests(self, request_ids: Collection[int]) -> None:
        dropped = [r for r in self.in_flight if r.request_id in request_ids]
        self.aborted += map(self.number, dropped)
        self.in_flight = [r for r in self.in_flight if r not in dropped]

    def load_weights(self, weights: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Dialogue(gym.Env):
    """Says `<seed>+=`, then `<turn>=` until `num_turns` replies came; pays a reply's length."""

    def __init__(self, num_turns: int = 1, fails: str = "", **kwargs: Any) -> None:
        self.num_turns, self.fails = num_turns, fails
        self.resets: list[int] = []
        self.actions: list[str] = []
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        assert not self.closed
        self.resets.append(seed)
        self.turn = 0
        if self.fails == f"reset {seed}":
            raise OSError("no such problem")
        return f"{seed}+=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        assert not self.closed
        if self.fails == f"step {self.resets[-1]} {action}":
            raise OSError("the tool broke")
        self.actions.append(action)
        self.turn += 1
        return f"{self.turn}=", len(action), self.turn == self.num_turns, False, {"said": action}

    def close(self) -> None:
        self.closed = True


class Acts(gym.Env):
    """One turn, which is whatever a function of the seed does."""

    def __init__(
        self,
        reset: Callable[[int], Any] = lambda seed: None,
        step: Callable[[int], Any] = lambda seed: None,
    ) -> None:
        self._reset, self._step = reset, step
        self.thread = threading.current_thread()
        self.database = sqlite3.connect(":memory:")  # may be used by the thread that made it alone
        self.closed = threading.Event()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        assert seed is not None
        self._seed = seed
        self.database.execute("select 1")
        self._reset(seed)
        return f"{seed}=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        self.database.execute("select 1")
        self._step(self._seed)
        return "", 1.0, True, False, {}

    def close(self) -> None:
        self.database.close()
        self.closed.set()


class Bench:
    """A rollout with its engine and all environments it made."""

    def __init__(
        self,
        tokenizer: Any,
        reply: Reply,
        *,
        max_model_len: int = 100,
        env_class: type = Dialogue,
        timeout_s: float | None = None,
        num_env_threads: int = 0,
        **env: Any,
    ) -> None:
        self.tokenizer = tokenizer
        self.engine = ScriptedEngine(tokenizer, reply, max_model_len)
        self.made: list[Any] = []
        self._env_class = env_class
        self._num_env_threads = num_env_threads
        self.pool = EnvPool(self._make, env, timeout_s=timeout_s, in_threads=num_env_threads > 0)

    def _make(self, config: dict[str, Any]) -> gym.Env:
        self.made.append(self._env_class(**config))
        return self.made[-1]

    def run(
        self,
        seeds: Sequence[int],
        *,
        group_size: int = 2,
        stream: tuple = (0, 0),
        timeout_s: float = 60.0,
        max_tokens: int = 8,
        **options: Any,
    ) -> RolloutResult:
        self.engine.requests.clear()
        result = GroupRollout(
            RolloutJob(tuple(seeds), 3, stream, False, timeout_s),
            group_size=group_size,
            sampling=SamplingSettings(max_tokens=max_tokens),
            engine=self.engine,
            formatter=PromptFormatter(self.tokenizer, "raw"),
            envs=self.pool,
            num_env_threads=self._num_env_threads,
            **options,
        ).run()
        assert not self.engine.in_flight
        assert sorted([*result.groups, *result.dropped, *result.unfinished]) == sorted(seeds)
        return result

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)
