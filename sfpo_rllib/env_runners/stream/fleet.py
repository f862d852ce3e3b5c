"""Runners at work on ledgers: which of them gets which job, under which weights."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ray.rllib.env.env_runner_group import EnvRunnerGroup

from sfpo_rllib.env_runners.runner_calls import Answer, Call, Calls, calls_on
from sfpo_rllib.env_runners.stream.ledger import Ledger, Ticket
from sfpo_rllib.env_runners.weights import Mailbox, PublishedWeights

logger = logging.getLogger(__name__)

# A runner gives up its unfinished groups itself at the deadline, as soon as its engine's or its
# environment's step is over. One that has not answered so long after it, or after this share of
# rollout_timeout_s, is stuck, and is replaced.
GRACE_S = 30.0
GRACE_SHARE = 0.1

SET_STATE, SAMPLE, SLEEP = "set_state", "sample", "sleep"


class Fleet:
    """The runners of one EnvRunnerGroup.

    A runner answers in the order in which it is asked, so that a job's weights are sent before it,
    unless they were the last that went there; nobody waits for them to be loaded. A runner that
    was started anew holds others than the job names, and says so: then both are sent again.

    With a mailbox nothing is sent before a job. A runner takes what is newest there when it begins,
    and between any two steps of its engine: a job's weights are then the oldest that it may run.

    Attributes:
        num_lost: Runners that died or were replaced, until somebody sets it to 0.
    """

    def __init__(
        self,
        runners: EnvRunnerGroup,
        *,
        timeout_s: float,
        restore: Callable[[], Any],
        restore_timeout_s: float,
        restarts: bool = True,
        mailbox: Mailbox | None = None,
    ) -> None:
        """Initializes it.

        Args:
            runners: The runners.
            timeout_s: Deadline of a job, and of a load of weights.
            restore: Brings lost runners back, as far as they are up again, and calls `welcome`.
            restore_timeout_s: How long to wait for a runner when none is healthy.
            restarts: Whether Ray starts dead runners again. If not, nothing is waited for.
            mailbox: Where runners find the newest weights, if they are to look there.
        """
        self.num_lost = 0
        self._calls: Calls = calls_on(runners)
        self._timeout_s = timeout_s
        self._restore = restore
        self._restore_timeout_s = restore_timeout_s
        self._restarts = restarts
        self._mailbox = mailbox
        self._weights: dict[int, PublishedWeights] = {}
        self._newest: PublishedWeights | None = None
        self._told: dict[int, int] = {}  # the version that was last sent to a runner
        self._jobs: dict[int, list[Call]] = {}  # that a runner has not answered, in order
        self._is_untidy = False  # after an interrupt
        self._ledgers: list[Ledger] = []
        self._last_loss = "see the runners' logs"

    @contextmanager
    def working_on(self, ledger: Ledger) -> Iterator[None]:
        """The runners work on a ledger until the end of the body, too; then its calls are ended."""
        self.take_on(ledger)
        try:
            yield
        finally:
            self._ledgers.remove(ledger)
            self.look_after_calls()

    def take_on(self, ledger: Ledger) -> None:
        """The runners work on a ledger from now on."""
        self._ledgers.append(ledger)

    def publish(self, weights: PublishedWeights, *, tell: bool = True) -> None:
        """Sends new weights to all runners, behind what they are at. Waits for none.

        Args:
            weights: The weights.
            tell: Whether to send them; not if the runners look for them.
        """
        needed = {version for ledger in self._ledgers for version in ledger.versions}
        if self._mailbox is not None:
            needed = set()
        self._weights = {v: w for v, w in self._weights.items() if v in needed}
        self._weights[weights.version] = self._newest = weights
        self._told.clear()  # those of a failed update may have the same version
        if tell:
            for worker_id in self._calls.healthy():
                self._tell(worker_id, weights.version, weights.state)

    def welcome(self, worker_ids: Iterable[int]) -> None:
        """Sends runners that may hold any weights, or none, the newest."""
        for worker_id in worker_ids:
            self._told.pop(worker_id, None)
            if self._newest is not None:
                self._tell(worker_id, self._newest.version, self._newest.state_for_one())

    def wait_for_weights(self) -> None:
        """Waits until all runners have loaded what they were sent.

        Raises:
            RuntimeError: If there is none that has, and one raised.
        """
        loaded, reason = 0, ""
        with self._tidy():
            while any(call.method == SET_STATE for call in self._calls.all()):
                for answer in self._calls.poll():
                    self._take(answer)
                    if answer.call.method == SET_STATE:
                        loaded += answer.lost is None
                        if answer.raised:
                            reason = f"{answer.lost}"
        if reason and not loaded:
            raise RuntimeError(f"no env runner took the new weights: {reason}")

    def sleep(self) -> None:
        """Has all engines give up their memory, and waits for it; new weights wake them."""
        self._told.clear()
        for worker_id in self._calls.healthy():
            self._calls.send(worker_id, SLEEP, {}, timeout_s=self._timeout_s)
        with self._tidy():
            while any(call.method == SLEEP for call in self._calls.all()):
                self._take_all(self._calls.poll())

    def members(self) -> list[int]:
        """The ids of the runners that may be called."""
        return list(self._calls.healthy())

    def work(self, until: Callable[[], bool]) -> None:
        """Has the runners work until something is so: each gets its next job when it has none.

        Raises:
            RuntimeError: If no runner is healthy, or nothing that they do comes to anything.
        """
        with self._tidy():
            self._take_all(self._calls.poll(wait=False))
            while not until():
                self._hand_out(at_most=1)
                self._share_out()
                if self._calls.is_any():
                    self._take_all(self._calls.poll())
                else:
                    self._wait_for_healthy()

    def hand_out_all(self) -> None:
        """Gives every job to a runner, as nobody will be there to do it for a while."""
        with self._tidy():
            self._hand_out(at_most=None)

    def look_after_calls(self) -> None:
        """Ends calls that are nobody's any more, and asks again for what an interrupt has lost."""
        calls = [call for call in self._calls.all() if call.method == SAMPLE]
        self._jobs = {}
        for call in calls:
            if any(ledger.is_waiting_for(call.about) for ledger in self._ledgers):
                self._jobs.setdefault(call.worker_id, []).append(call)
            else:
                self._calls.cancel([call])
        for ledger in self._ledgers:
            ledger.keep_only({call.about.id for call in calls})

    @contextmanager
    def _tidy(self) -> Iterator[None]:
        """What the body does to calls and jobs is done whole, or looked after the next time."""
        if self._is_untidy:
            self.look_after_calls()
        self._is_untidy = True
        yield
        self._is_untidy = False

    def _hand_out(self, *, at_most: int | None) -> None:
        """Gives pending jobs to the runners with fewest, as far as they have less than so many."""
        if not any(ledger.pending for ledger in self._ledgers):
            return
        loads = {i: len(self._jobs.get(i, ())) for i in self._calls.healthy()}
        for ledger in self._ledgers:
            while ledger.pending and loads:
                ticket = ledger.pending[0]
                version = ticket.job.weights_version
                worker_id = min(loads, key=lambda i: (loads[i], self._told.get(i) != version, i))
                if at_most is not None and loads[worker_id] >= at_most:
                    return
                self._send(worker_id, ticket)
                ledger.pending.popleft()
                loads[worker_id] += 1

    def _share_out(self) -> None:
        """A runner that has nothing to do gets the last job of one that has several."""
        if max(map(len, self._jobs.values()), default=0) < 2:
            return
        for worker_id in self._calls.healthy():
            if self._jobs.get(worker_id):
                continue
            busiest = max(self._jobs.values(), key=len)
            if len(busiest) < 2:
                return
            call = busiest[-1]
            self._cancel([call])
            self._send(worker_id, call.about)

    def _send(self, worker_id: int, ticket: Ticket) -> None:
        job, version = ticket.job, ticket.job.weights_version
        if self._mailbox is not None:
            job = replace(job, mailbox=self._mailbox.box)
        elif self._told.get(worker_id) != version:
            self._tell(worker_id, version, self._weights[version].state_for_one())
        grace = max(GRACE_S, GRACE_SHARE * self._timeout_s)
        call = self._calls.send(
            worker_id, SAMPLE, {"job": job}, timeout_s=self._timeout_s + grace, about=ticket
        )
        self._jobs.setdefault(worker_id, []).append(call)

    def _cancel(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._forget(call)
        self._calls.cancel(calls)

    def _forget(self, call: Call) -> None:
        if call in (jobs := self._jobs.get(call.worker_id, [])):
            jobs.remove(call)

    def _tell(self, worker_id: int, version: int, state: Any) -> None:
        self._calls.send(worker_id, SET_STATE, {"state": state}, timeout_s=self._timeout_s)
        self._told[worker_id] = version

    def _take_all(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._take(answer)

    def _take(self, answer: Answer) -> None:
        worker_id, ticket = answer.call.worker_id, answer.call.about
        if answer.lost is not None and answer.at_fault:
            self.num_lost += 1
            self._last_loss = answer.lost
            self._told.pop(worker_id, None)
        if ticket is None:
            if answer.at_fault:
                for ledger in self._ledgers:
                    ledger.failed(f"{answer.lost}", raised=answer.raised)
            return
        self._forget(answer.call)
        if answer.lost is None and answer.value.stale_version is not None:
            # It was started anew. What stands behind the job would be answered likewise.
            self._told.pop(worker_id, None)
            behind = list(self._jobs.get(worker_id, ()))
            self._cancel(behind)
            for ledger in self._ledgers:
                for call in reversed(behind):
                    ledger.withdrawn(call.about)
        for ledger in self._ledgers:
            if answer.lost is None:
                ledger.answered(ticket, answer.value)
            else:
                ledger.lost(ticket, answer.lost, at_fault=answer.at_fault, raised=answer.raised)

    def _wait_for_healthy(self) -> None:
        deadline = time.monotonic() + self._restore_timeout_s
        while not self._calls.healthy():
            if not self._restarts:
                raise RuntimeError(
                    "no env runner is alive, and restart_failed_env_runners=False: the runners' "
                    "logs say why they died"
                )
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"no env runner is healthy, and none came back within "
                    f"{self._restore_timeout_s:.0f} s; the last one was lost as: {self._last_loss}"
                )
            self._restore()
