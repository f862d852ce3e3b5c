"""Calls on the learners' processes: one that fails is named at once, and keeps no other waiting."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.rllib.utils.actor_manager import (
    FaultTolerantActorManager,
    RemoteCallResults,
    ResultOrError,
)
from ray.rllib.utils.annotations import override

# How long others may take to answer once one has raised. They may be waiting for it in a collective
# operation; and where they lost their peer, the news of its death is still on its way.
GRACE_S = 5.0

_LOST_PEER = ("gloo", "nccl", "connection reset", "connection closed", "broken pipe")


class LearnerError(RuntimeError):
    """The learners cannot go on: which of them failed, why, and what to do."""


class LearnerActors(FaultTolerantActorManager):
    """The processes of a learner group.

    RLlib's manager waits for every answer and takes an actor that raised out of service. But
    learners wait for each other in collective operations, for the half hour of the process group's
    time-out, and an update without one of them would never end. So here a call ends when a learner
    dies, or has raised and leaves others waiting, and the group ends with it.

    Attributes:
        failure: What ended the group. Every later call raises it.
        changing: An error that is raised in a learner ends the group too, as it may leave learners
            that differ.
    """

    def __init__(self, actors: list[Any], *, advice: str) -> None:
        """Initializes the manager.

        Args:
            actors: The learners, in order.
            advice: What to do when they have failed.
        """
        super().__init__(actors)
        self.failure: LearnerError | None = None
        self.changing = False
        self._advice = advice

    @override(FaultTolerantActorManager)
    def foreach_actor(
        self,
        func: Callable[[Any], Any] | list[Callable[[Any], Any]] | str | list[str],
        *,
        kwargs: dict[str, Any] | list[dict[str, Any]] | None = None,
        healthy_only: bool = True,
        remote_actor_ids: list[int] | None = None,
        timeout_seconds: float | None = None,
        return_obj_refs: bool = False,
        mark_healthy: bool = False,
    ) -> RemoteCallResults:
        """As RLlib's; all actors are healthy, or the group has ended.

        Raises:
            LearnerError: If the group has ended, now or earlier.
        """
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        ids = remote_actor_ids or self.actor_ids()
        refs = self._call_actors(func, kwargs=kwargs, remote_actor_ids=ids)
        answers = _wait_for(refs, timeout_seconds, resolve=not return_obj_refs)
        results = RemoteCallResults()
        for i, ref in zip(ids, refs, strict=True):
            if ref in answers:
                results.add_result(i, answers[ref], None)
        errors = {result.actor_id: result.get() for result in results if not result.ok}
        dead = any(isinstance(error, RayActorError) for error in errors.values())
        if errors and (dead or self.changing or len(answers) < len(refs)):
            self._end(errors)
        return results

    def _end(self, errors: dict[int, Exception]) -> None:
        """Stops all learners, and raises the error of the one that began it."""
        first = min(errors, key=lambda i: (_hearsay(errors[i]), i))
        who = f"learner {first} of {self.num_actors()}"
        self.failure = learner_error(who, errors[first], self._advice)
        for actor in self.actors().values():
            ray.kill(actor)
        raise self.failure from errors[first]


def learner_error(who: str, error: Exception, advice: str) -> LearnerError:
    """One sentence on what happened, and what to do."""
    if isinstance(error, RayActorError):
        what = f"died: {_why_dead(error)}"
    else:
        cause = getattr(error, "cause", error)
        what = f"raised {type(cause).__name__}: {cause}"
    return LearnerError(f"{who} {what}\n{advice}")


def _why_dead(error: RayActorError) -> str:
    """What of Ray's paragraph on a dead actor tells one death from another."""
    text = " ".join(str(error).split())
    why = text[max(text.find("The actor is dead"), 0) :].split(" Some common causes")[0]
    pid = re.search(r"pid: \d+", text)
    return f"{why} ({pid[0]})" if pid else why


def _wait_for(
    refs: list[ray.ObjectRef], timeout_s: float | None, *, resolve: bool
) -> dict[ray.ObjectRef, ResultOrError]:
    """What has come in time: until one dies, or for `GRACE_S` after one has raised."""
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    answers: dict[ray.ObjectRef, ResultOrError] = {}
    pending = refs
    while pending:
        left = None if deadline == math.inf else max(deadline - time.monotonic(), 0.0)
        ready, pending = ray.wait(pending, num_returns=1, timeout=left, fetch_local=resolve)
        if not ready:
            break
        answers[ready[0]] = answer = _answer(ready[0]) if resolve else ResultOrError(ready[0])
        if isinstance(answer.get(), RayActorError):
            break
        if not answer.ok:
            deadline = min(deadline, time.monotonic() + GRACE_S)
    return answers


def _answer(ref: ray.ObjectRef) -> ResultOrError:
    try:
        return ResultOrError(result=ray.get(ref))
    except RayError as error:
        return ResultOrError(error=error)


def _hearsay(error: Exception) -> int:
    """How far an error is from the cause: a death, an own error, the loss of a peer."""
    if isinstance(error, RayActorError):
        return 0
    text = str(getattr(error, "cause", error)).lower()
    return 2 if any(words in text for words in _LOST_PEER) else 1
