"""Which groups are being sampled, in order: each is taken once, and what is missing asked for anew.

It knows neither of Ray nor of time. What comes of it is a function of what the runners answer, not
of when or of which of them does.
"""

import itertools
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sfpo_rllib.env_runners.remote_group import Group
from sfpo_rllib.env_runners.rollout import RolloutJob, RolloutResult

logger = logging.getLogger(__name__)

# A seed that was given up so often, the last time in a job of its own, is dropped.
MAX_ATTEMPTS = 3
# Those given up twice are asked for in jobs of so many times fewer seeds, at last each alone: so
# is found which of them it is that kills or hangs its runner, or takes too long.
SPLIT = 8
# Jobs in a row, a runner, that came to nothing: enough to come from a batch of any size to single
# seeds, and past the one at fault.
MAX_FRUITLESS_ROUNDS = 8

_ids = itertools.count()  # never one twice in a process: no late answer is taken for another's


@dataclass(frozen=True)
class Ticket:
    """A job, and how often its seeds have been given up."""

    id: int
    job: RolloutJob
    attempts: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a seed.

    Attributes:
        weights_version: Under which it was sampled; the oldest, if there were several.
        group: Its episodes; None if it was dropped.
        reason: Why it was dropped.
        given_up: Whether it was dropped as it was not sampled in `MAX_ATTEMPTS` attempts.
    """

    weights_version: int
    group: Group | None = None
    reason: str = ""
    given_up: bool = False


class Ledger:
    """Open seeds in the order in which they were opened, and the jobs that sample them.

    Attributes:
        pending: Jobs that no runner has been given, next one first.
        counts: `num_groups_reissued` and `num_envs_timed_out`, until somebody clears them.
        runner_metrics: What callbacks logged in the runners, likewise.
    """

    def __init__(self, num_runners: int) -> None:
        """Initializes an empty ledger.

        Args:
            num_runners: How many there are to work on it. With as many failures in a row of each
                as `MAX_FRUITLESS_ROUNDS` it is at its end.
        """
        self.pending: deque[Ticket] = deque()
        self.counts: Counter[str] = Counter()
        self.runner_metrics: list[Any] = []
        self._open: OrderedDict[int, Outcome | None] = OrderedDict()
        self._tickets: dict[int, Ticket] = {}  # of jobs that are not over
        self._num_runners = max(num_runners, 1)
        self._num_in_vain = self._num_raised = 0  # in a row
        self._reasons: deque[str] = deque(maxlen=MAX_FRUITLESS_ROUNDS)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def seeds(self) -> list[int]:
        """The open ones, in order."""
        return list(self._open)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not self._tickets

    @property
    def versions(self) -> set[int]:
        """The versions of the weights that what is missing needs."""
        return {ticket.job.weights_version for ticket in self._tickets.values()}

    @property
    def has_front(self) -> bool:
        """Whether it is known what came of the first seed."""
        return bool(self._open) and next(iter(self._open.values())) is not None

    def peek(self) -> tuple[int, Outcome]:
        """The first seed, which is known, and what came of it."""
        seed, outcome = next(iter(self._open.items()))
        assert outcome is not None
        return seed, outcome

    def open(self, job: RolloutJob) -> None:
        """Opens the seeds of a job behind those that are open, and puts the job in line."""
        self._open.update(dict.fromkeys(job.seeds))
        self._issue(job, 0)

    def put_back(self, outcomes: Iterable[tuple[int, Outcome]]) -> None:
        """Opens seeds of which the outcome is known, before those that are open."""
        for seed, outcome in reversed(list(outcomes)):
            self._open[seed] = outcome
            self._open.move_to_end(seed, last=False)

    def take_front(self) -> tuple[int, Outcome]:
        """Takes the first seed off, which is known."""
        seed, outcome = self.peek()
        del self._open[seed]
        return seed, outcome

    def outcomes(self) -> list[tuple[int, Outcome]]:
        """All open seeds, of which nothing is missing."""
        return [(seed, outcome) for seed, outcome in self._open.items() if outcome is not None]

    def forget(self, which: Callable[[int], bool] = lambda seed: True) -> None:
        """Closes seeds, whatever has come of them."""
        for seed in [seed for seed in self._open if which(seed)]:
            del self._open[seed]
        self.pending = deque(t for t in self.pending if self._missing(t))
        self._tickets = {i: t for i, t in self._tickets.items() if self._missing(t)}

    def is_waiting_for(self, ticket: Ticket) -> bool:
        """Whether an answer to the job would be taken."""
        return ticket.id in self._tickets

    def answered(self, ticket: Ticket, result: RolloutResult) -> None:
        """Takes what came of a job, unless it was given up before.

        Raises:
            RuntimeError: If too many in a row came to nothing.
        """
        if not self.is_waiting_for(ticket):
            return
        if result.stale_version is not None:
            self.withdrawn(ticket)
            self.failed("stale weights")
            return
        version = ticket.job.weights_version
        outcomes = {
            seed: Outcome(result.oldest_versions.get(seed, version), group=group)
            for seed, group in result.groups.items()
        }
        outcomes |= {seed: Outcome(version, reason=r) for seed, r in result.dropped.items()}
        self._settle(outcomes)
        self.counts["num_envs_timed_out"] += result.num_envs_timed_out
        if result.metrics is not None:
            self.runner_metrics.append(result.metrics)
        reason = f"not over within rollout_timeout_s={ticket.job.timeout_s}"
        self._give_up(ticket, reason)
        if outcomes:
            self._num_in_vain = self._num_raised = 0
        else:
            self.failed(reason)

    def lost(self, ticket: Ticket, reason: str, *, at_fault: bool, raised: bool = False) -> None:
        """Issues a job again whose runner was lost.

        Args:
            ticket: The job.
            reason: Why the runner was lost.
            at_fault: Whether it was at this job, which may be the cause then.
            raised: Whether it raised.

        Raises:
            RuntimeError: If too many in a row came to nothing.
        """
        if not self.is_waiting_for(ticket):
            return
        if at_fault:
            self._give_up(ticket, reason)
            self.failed(reason, raised=raised)
        else:
            self.counts["num_groups_reissued"] += len(self._missing(ticket))
            self.withdrawn(ticket)

    def withdrawn(self, ticket: Ticket) -> None:
        """Puts a job in line again that was taken from its runner."""
        if self.is_waiting_for(ticket):
            self._issue(ticket.job, ticket.attempts, first=True)
            del self._tickets[ticket.id]  # last, as an interrupt may come in between

    def keep_only(self, at_work: Collection[int]) -> None:
        """Puts the jobs in line again that no runner is at; an interrupt may have lost them.

        Args:
            at_work: Ids of those that one is at.
        """
        known = {*at_work, *(ticket.id for ticket in self.pending)}
        for ticket in [t for i, t in self._tickets.items() if i not in known]:
            self.withdrawn(ticket)

    def failed(self, reason: str, *, raised: bool = False) -> None:
        """Counts something that came to nothing.

        Raises:
            RuntimeError: If it was too often in a row.
        """
        self._num_in_vain += 1
        self._num_raised = self._num_raised + 1 if raised else 0
        self._reasons.append(reason)
        if self.is_whole or (
            self._num_in_vain < MAX_FRUITLESS_ROUNDS * self._num_runners
            # If all runners raise, whatever they are asked for, it is hardly the problems.
            and self._num_raised <= MAX_ATTEMPTS * self._num_runners
        ):
            return
        rounds = -(-self._num_in_vain // self._num_runners)
        self._num_in_vain = self._num_raised = 0
        missing = sum(outcome is None for outcome in self._open.values())
        raise RuntimeError(
            f"no group was sampled in {rounds} rounds, {missing} are missing: "
            f"{'; '.join(sorted(set(self._reasons))[:3])}"
        )

    def _issue(self, job: RolloutJob, attempts: int, *, first: bool = False) -> None:
        ticket = Ticket(next(_ids), job, attempts)
        missing = tuple(self._missing(ticket))
        if not missing:
            return
        if missing != job.seeds:
            ticket = replace(ticket, job=replace(job, seeds=missing))
        self._tickets[ticket.id] = ticket
        if first:
            self.pending.appendleft(ticket)
        else:
            self.pending.append(ticket)

    def _missing(self, ticket: Ticket) -> list[int]:
        return [s for s in ticket.job.seeds if s in self._open and self._open[s] is None]

    def _settle(self, outcomes: dict[int, Outcome]) -> None:
        for seed, outcome in outcomes.items():
            if seed in self._open and self._open[seed] is None:
                self._open[seed] = outcome

    def _give_up(self, ticket: Ticket, reason: str) -> None:
        """Asks again for what is missing of a job; suspects last, in small jobs, or no more."""
        missing, attempts = self._missing(ticket), ticket.attempts + 1
        job = replace(ticket.job, seeds=tuple(missing))
        if missing and attempts >= MAX_ATTEMPTS and len(ticket.job.seeds) == 1:
            why = f"not sampled in {attempts} attempts, the last one alone: {reason}"
            logger.warning("Group with seed %d is dropped: %s", missing[0], why)
            outcome = Outcome(job.weights_version, reason=why, given_up=True)
            self._settle({missing[0]: outcome})
        elif attempts < 2:
            self._issue(job, attempts, first=True)
            self.counts["num_groups_reissued"] += len(missing)
        else:
            for part in cut(missing, max(1, len(ticket.job.seeds) // SPLIT)):
                self._issue(replace(job, seeds=part), attempts)
            self.counts["num_groups_reissued"] += len(missing)
        del self._tickets[ticket.id]  # last, as an interrupt may come in between


def cut(seeds: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Seeds in parts of a size, but for the last."""
    return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]
