"""Calls on env runners: who answers in time, who has died, and who is stuck.

RLlib's own calls do not say which runner an answer is from, hand out nothing to cancel a call by,
and drop what a runner has no room for. This is the one place that reaches for the handles of single
runners, which are not public.

A runner answers its calls one after the other, in the order in which they were sent: Ray's promise
for an actor without concurrency, on which all that is said of versions of weights rests.
"""

import logging
import math
import time
import traceback
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.annotations import override

from sfpo_rllib.env_runners.remote_group import apart, joined, num_parts

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 3600.0  # of Ray, which takes no infinite one
LOCAL = 0  # the id of the runner in this process


@dataclass(eq=False)
class Call:
    """One that has been sent, and not been answered.

    Attributes:
        worker_id: The runner.
        method: Its name.
        timeout_s: How long it may take, once those before it are over.
        about: What the caller notes with it.
        ref: What the answer is known by; in this process, its arguments.
        since: When it was first known to be the runner's next to answer; None before.
        parts: What groups in the answer will be known by.
    """

    worker_id: int
    method: str
    timeout_s: float
    about: Any
    ref: Any
    since: float | None = None
    parts: Sequence[Any] = ()


@dataclass(frozen=True)
class Answer:
    """What came of a call.

    Attributes:
        call: The call.
        value: What the runner returned.
        lost: Why the runner is lost, if it is: it died, raised, or did not answer in time.
        at_fault: Whether it was lost in this call, and not in one before it.
        raised: Whether it raised.
    """

    call: Call
    value: Any = None
    lost: str | None = None
    at_fault: bool = False
    raised: bool = False


class Calls(ABC):
    """Calls under way, a line of them for each runner."""

    def __init__(self) -> None:
        self._lines: dict[int, deque[Call]] = defaultdict(deque)

    @abstractmethod
    def healthy(self) -> list[int]:
        """The ids of the runners that may be called."""

    def is_any(self) -> bool:
        """Whether a call is under way."""
        return any(self._lines.values())

    def all(self) -> list[Call]:
        """The calls under way."""
        return [call for line in self._lines.values() for call in line]

    @abstractmethod
    def send(
        self,
        worker_id: int,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        about: Any = None,
    ) -> Call:
        """Calls a method of a runner, and does not wait."""

    @abstractmethod
    def poll(self, *, wait: bool = True) -> list[Answer]:
        """Answers since the last time.

        Args:
            wait: Whether to wait for one, if there is a call under way.
        """

    @abstractmethod
    def cancel(self, calls: Iterable[Call]) -> None:
        """Gives calls up: a runner stops when it next looks, and its answer is nobody's."""


class RemoteCalls(Calls):
    """Calls on the remote runners of a group.

    A runner that is lost is replaced: its calls are all answered by why.
    """

    def __init__(self, runners: EnvRunnerGroup) -> None:
        super().__init__()
        self._runners = runners
        self._look_again_at = math.inf  # when a runner is overdue, at the earliest

    @override(Calls)
    def healthy(self) -> list[int]:
        return list(self._runners.healthy_env_runner_ids())

    @override(Calls)
    def send(
        self,
        worker_id: int,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        about: Any = None,
    ) -> Call:
        count = num_parts(arguments)

        def call(runner: EnvRunner, **kwargs: Any) -> Any:
            try:
                value, parts = apart(getattr(runner, method)(**kwargs), count)
                failure = None
            except Exception:  # RLlib would sleep a minute, and end the process without a word
                value, parts, failure = None, [None] * count, traceback.format_exc()
            return ((value, failure), *parts) if count else (value, failure)

        apply = self._runners._worker_manager.actors()[worker_id].apply
        refs = apply.options(num_returns=1 + count).remote(call, **arguments)
        ref, *parts = refs if count else [refs]
        line = self._lines[worker_id]
        line.append(Call(worker_id, method, timeout_s, about, ref, parts=parts))
        self._begin(line)
        return line[-1]

    @override(Calls)
    def poll(self, *, wait: bool = True) -> list[Answer]:
        # The first call of each runner is enough to wait for: what it answers next comes next time.
        firsts = {line[0].ref: line for line in self._lines.values() if line}
        if not firsts:
            return []
        timeout_s = max(self._look_again_at - time.monotonic(), 0.0) if wait else 0.0
        ready, rest = ray.wait(list(firsts), timeout=min(timeout_s, LONGEST_WAIT_S))
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0.0)[0]
        answers = [answer for ref in ready for answer in self._answered(firsts[ref])]
        if time.monotonic() >= self._look_again_at:
            answers += self._overdue()
        return answers

    def _answered(self, line: deque[Call]) -> list[Answer]:
        """What came of the first call of a line, and of those behind it if the runner is lost."""
        call = line.popleft()
        self._begin(line)
        try:
            value, failure = ray.get(call.ref)
        except RayError as error:
            answer = Answer(call, lost=f"it died: {error}", at_fault=True)
            self._runners._worker_manager.set_actor_state(call.worker_id, healthy=False)
            return [answer, *self._lose(line, answer)]
        if failure is None:
            return [Answer(call, joined(value, call.parts))]
        reason = f"{call.method}() raised:\n{failure}"
        answer = Answer(call, lost=reason, at_fault=True, raised=True)
        replace_runner(self._runners, call.worker_id)
        return [answer, *self._lose(line, answer)]

    def _begin(self, line: deque[Call]) -> None:
        """The first call of a line is the runner's next to answer from now on."""
        if line and line[0].since is None:
            line[0].since = time.monotonic()
            self._look_again_at = min(self._look_again_at, line[0].since + line[0].timeout_s)

    def _overdue(self) -> list[Answer]:
        """Gives up runners that have not answered in time, and notes when to look again."""
        now, answers = time.monotonic(), []
        self._look_again_at = math.inf
        for line in filter(None, list(self._lines.values())):
            self._begin(line)  # if an interrupt came before it was noted
            call = line[0]
            due = (call.since or now) + call.timeout_s
            if due > now:
                self._look_again_at = min(self._look_again_at, due)
                continue
            reason = f"no answer to {call.method}() within {call.timeout_s:g} s"
            answers.append(Answer(line.popleft(), lost=reason, at_fault=True))
            replace_runner(self._runners, call.worker_id)
            answers += self._lose(line, answers[-1])
        return answers

    def _lose(self, line: deque[Call], cause: Answer) -> list[Answer]:
        """Answers of the calls that stood behind the one in which their runner was lost."""
        logger.warning("Env runner %d is lost: %s", cause.call.worker_id, cause.lost)
        answers = [Answer(call, lost=cause.lost) for call in line]
        line.clear()
        return answers

    @override(Calls)
    def cancel(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if call in (line := self._lines[call.worker_id]):
                line.remove(call)
                self._begin(line)
            ray.cancel(call.ref)


class LocalCalls(Calls):
    """Calls on the runner in this process, made when somebody waits for them."""

    def __init__(self, runner: EnvRunner) -> None:
        super().__init__()
        self._runner = runner

    @override(Calls)
    def healthy(self) -> list[int]:
        return [LOCAL]

    @override(Calls)
    def send(
        self,
        worker_id: int,
        method: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        about: Any = None,
    ) -> Call:
        call = Call(LOCAL, method, timeout_s, about, dict(arguments))
        self._lines[LOCAL].append(call)
        return call

    @override(Calls)
    def poll(self, *, wait: bool = True) -> list[Answer]:
        """Makes the next call. What it raises is raised here."""
        if not wait or not self._lines[LOCAL]:
            return []
        call = self._lines[LOCAL].popleft()
        return [Answer(call, getattr(self._runner, call.method)(**call.ref))]

    @override(Calls)
    def cancel(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._lines[LOCAL].remove(call)


def calls_on(runners: EnvRunnerGroup) -> Calls:
    """Calls on the runners of a group: the remote ones, or the one in this process."""
    if runners.num_remote_env_runners() > 0:
        return RemoteCalls(runners)
    return LocalCalls(runners.local_env_runner)


def kill_runners(runners: EnvRunnerGroup) -> None:
    """Kills all remote runners, whatever they are at; none is started anew."""
    runners._worker_manager.clear()


def replace_runner(runners: EnvRunnerGroup, worker_id: int) -> None:
    """Kills a runner, so that Ray starts it anew and RLlib restores it."""
    manager = runners._worker_manager
    ray.kill(manager.actors()[worker_id], no_restart=False)
    manager.set_actor_state(worker_id, healthy=False)
