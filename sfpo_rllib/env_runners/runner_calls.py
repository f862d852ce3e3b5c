"""Calls on remote env runners: who answers in time, who has died, and who is stuck.

RLlib's own calls do not say which runner an answer is from, and hand out nothing to cancel a call
by. This is the one place that reaches for the handles of single runners, which are not public.
"""

import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.env.env_runner_group import EnvRunnerGroup

logger = logging.getLogger(__name__)


@dataclass
class Answers:
    """What came of calls, by the id of the runner.

    Attributes:
        values: What the runners returned.
        lost: Runners that died, raised, or did not answer, with the reason. They are replaced.
        raised: Those of them that raised.
    """

    values: dict[int, Any] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    raised: dict[int, str] = field(default_factory=dict)


def call_runners(
    runners: EnvRunnerGroup,
    method: str,
    arguments: Mapping[int, Mapping[str, Any]],
    *,
    timeout_s: float,
) -> Answers:
    """Calls a method of some runners, and waits until all have answered or are lost.

    A runner that raises or does not answer in time is replaced. Whatever interrupts the wait,
    Ctrl-C for one, cancels the calls: a runner stops when it next looks, and its answer is
    nobody's.

    Args:
        runners: The group of them.
        method: Its name.
        arguments: Keyword arguments by the id of the runner.
        timeout_s: How long to wait.

    Returns:
        The answers.
    """

    def call(runner: EnvRunner, **kwargs: Any) -> tuple[Any, str | None]:
        try:
            return getattr(runner, method)(**kwargs), None
        except Exception:  # RLlib would sleep a minute, and end the process without a word
            return None, traceback.format_exc()

    manager = runners._worker_manager
    handles = manager.actors()
    deadline = time.monotonic() + timeout_s
    answers = Answers()
    waiting: dict[ray.ObjectRef, int] = {}
    try:
        for worker_id, kwargs in arguments.items():
            waiting[handles[worker_id].apply.remote(call, **kwargs)] = worker_id
        while waiting and (left := deadline - time.monotonic()) > 0:
            ready, _ = ray.wait(list(waiting), timeout=min(left, 3600.0))
            for ref in ready:
                worker_id = waiting.pop(ref)
                try:
                    value, failure = ray.get(ref)
                except RayError as error:
                    answers.lost[worker_id] = f"it died: {error}"
                    manager.set_actor_state(worker_id, healthy=False)
                else:
                    if failure is None:
                        answers.values[worker_id] = value
                    else:
                        reason = f"{method}() raised:\n{failure}"
                        answers.lost[worker_id] = answers.raised[worker_id] = reason
                        replace_runner(runners, worker_id)
    except BaseException:
        for ref in waiting:
            ray.cancel(ref)
        raise
    for worker_id in waiting.values():
        answers.lost[worker_id] = f"no answer to {method}() within {timeout_s:g} s"
        replace_runner(runners, worker_id)
    for worker_id, reason in answers.lost.items():
        logger.warning("Env runner %d is lost: %s", worker_id, reason)
    return answers


def kill_runners(runners: EnvRunnerGroup) -> None:
    """Kills all remote runners, whatever they are at; none is started anew."""
    runners._worker_manager.clear()


def replace_runner(runners: EnvRunnerGroup, worker_id: int) -> None:
    """Kills a runner, so that Ray starts it anew and RLlib restores it."""
    manager = runners._worker_manager
    ray.kill(manager.actors()[worker_id], no_restart=False)
    manager.set_actor_state(worker_id, healthy=False)
