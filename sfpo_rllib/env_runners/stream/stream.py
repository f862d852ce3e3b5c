"""The stream of groups: seeds in order, sampled ahead of the learner, taken in batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sfpo_rllib.env_runners.remote_group import Group
from sfpo_rllib.env_runners.rollout import RolloutJob
from sfpo_rllib.env_runners.stream.curriculum import ProblemChooser
from sfpo_rllib.env_runners.stream.fleet import Fleet
from sfpo_rllib.env_runners.stream.ledger import Ledger, Outcome, cut

Taken = tuple[int, Outcome]


@dataclass
class Batch:
    """What the learner gets next, and what was stepped over for it.

    Attributes:
        groups: As many as were asked for, in the order of their seeds.
        set_aside: Whole groups that were replaced.
        dropped: Seeds of which nothing came, with the reason.
        given_up: Those of them that were not sampled in `MAX_ATTEMPTS` attempts.
        versions: Of the weights that `groups` were sampled under, one a group.
    """

    groups: list[Group] = field(default_factory=list)
    set_aside: list[Group] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


class GroupStream:
    """Consecutive seeds, of which up to `max_staleness` + 1 batches are open.

    A batch is taken from the front, in order. What is stepped over there is replaced by the next
    seeds, at once and under the newest weights. So which problems are in a batch, in which order,
    and under which weights each was sampled, depends on what comes of them and not on when. With a
    chooser seeds are skipped on the way, by what came of the batches that were taken before.

    Attributes:
        cursor: The next seed.
        job_size: Groups that a runner is asked for at once.
        ledger: Of the open seeds.
        chooser: Skips seeds, if there is one.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        run_seed: int,
        cursor: int,
        batch_size: int,
        job_size: int,
        max_staleness: int,
        timeout_s: float,
        num_runners: int,
        chooser: ProblemChooser | None = None,
    ) -> None:
        """Initializes a stream of which nothing is open.

        Args:
            fleet: Samples.
            run_seed: What sampling seeds depend on, besides the number of the batch.
            cursor: The first seed.
            batch_size: Groups of a batch.
            job_size: Groups that a runner is asked for at once.
            max_staleness: Batches that are open besides the one that is taken.
            timeout_s: Of a job.
            num_runners: Of the fleet.
            chooser: Skips seeds.
        """
        self.run_seed = run_seed
        self.cursor = cursor
        self.job_size = job_size
        self.ledger = Ledger(num_runners)
        self.chooser = chooser
        self._fleet = fleet
        self._batch_size = batch_size
        self._max_staleness = max_staleness
        self._timeout_s = timeout_s
        self._taken: list[Taken] = []  # since `position()`
        self._before_take: Callable[[], None] = lambda: None
        fleet.take_on(self.ledger)

    def take(
        self, number: int, *, version: int, set_aside: Callable[[Group], bool], at_most: int
    ) -> Batch:
        """Takes the next batch, which it waits for.

        If it is interrupted, or fails, what was open before is open still, and what was opened
        meanwhile is not.

        Args:
            number: Of the batch.
            version: Of the newest weights.
            set_aside: Whether a group is to be replaced.
            at_most: So many are; further ones are kept.

        Raises:
            RuntimeError: If too many were dropped, or no runner samples anything.
        """
        batch, owed = Batch(), 0
        most_open = (self._max_staleness + 1) * self._batch_size
        with self._undone_on_error():
            while (room := most_open - len(self.ledger)) > 0:
                ahead, used = divmod(len(self.ledger), self._batch_size)
                self._issue(min(room, self._batch_size - used), number + ahead, version)
            while len(batch.groups) < self._batch_size:
                if not self.ledger.has_front:
                    self._fleet.work(until=lambda: self.ledger.has_front)
                self._taken.append(self.ledger.peek())
                seed, outcome = self.ledger.take_front()
                if outcome.group is None:
                    batch.dropped[seed] = outcome.reason
                    batch.given_up += [seed] * outcome.given_up
                    self._check_dropped(batch)
                    owed += 1
                elif len(batch.set_aside) < at_most and set_aside(outcome.group):
                    batch.set_aside.append(outcome.group)
                    owed += 1
                else:
                    batch.groups.append(outcome.group)
                    batch.versions.append(outcome.weights_version)
                is_over = len(batch.groups) == self._batch_size
                if owed >= self.job_size or (owed and (is_over or not len(self.ledger))):
                    self._issue(owed, number + self._max_staleness, version)
                    owed = 0
            self._fleet.hand_out_all()  # who learns now hands out nothing
            if self.chooser is not None:
                self.chooser.learn((s, o.group) for s, o in self._taken if o.group is not None)
        return batch

    def position(self) -> Callable[[], None]:
        """Remembers what is open and what comes next; what is returned goes back there.

        It undoes one `take()`, whether that has returned or not.
        """
        cursor, self._taken = self.cursor, []
        undo = (lambda: None) if self.chooser is None else self.chooser.snapshot()

        def go_back() -> None:
            self._reopen(cursor)
            self.cursor = cursor
            undo()

        return go_back

    def untake(self) -> bool:
        """Undoes the last `take()`, if it has returned: nobody learns from that batch.

        Returns:
            Whether it had.
        """
        had_returned = bool(self._taken)
        if had_returned:
            self._before_take()
        return had_returned

    def drain(self) -> None:
        """Waits until all open seeds are whole."""
        self._fleet.work(until=lambda: self.ledger.is_whole)

    def reset(self, run_seed: int, cursor: int, outcomes: list[Taken]) -> None:
        """Goes on elsewhere.

        Args:
            run_seed: See `__init__`.
            cursor: The next seed.
            outcomes: Open seeds before it, whole, in order.
        """
        self.run_seed, self.cursor = run_seed, cursor
        self._taken = []
        self.ledger.forget()
        self.ledger.put_back(outcomes)
        self._fleet.look_after_calls()

    def forget(self) -> None:
        """Closes all open seeds; they come again, under other weights."""
        self.reset(self.run_seed, min([self.cursor, *self.ledger.seeds]), [])

    def _issue(self, count: int, number: int, version: int) -> None:
        """Opens the next seeds for a batch."""
        for part in cut(self._next_seeds(count), self.job_size):
            stream = (self.run_seed, number)
            self.ledger.open(RolloutJob(part, version, stream, False, self._timeout_s))

    def _next_seeds(self, count: int) -> list[int]:
        """So many of the next seeds, without those that are skipped."""
        seeds: list[int] = []
        while len(seeds) < count:
            if self.chooser is None or not self.chooser.skips(self.run_seed, self.cursor):
                seeds.append(self.cursor)
            self.cursor += 1
        return seeds

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """Undoes what was opened and taken in the body if it raises."""
        first_new, self._before_take = self.cursor, self.position()
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                self._reopen(first_new)
            else:  # Ctrl-C: the next attempt is at the same problems
                self._before_take()
            raise

    def _reopen(self, first_new: int) -> None:
        """What was open when this was the next seed is open again, and nothing else."""
        self.ledger.forget(lambda seed: seed >= first_new)
        self.ledger.put_back([taken for taken in self._taken if taken[0] < first_new])
        self._taken = []
        self._fleet.look_after_calls()

    def _check_dropped(self, batch: Batch) -> None:
        if len(batch.dropped) >= max(self._batch_size, 16):
            reasons = sorted(set(batch.dropped.values()))[:3]
            raise RuntimeError(
                f"{len(batch.dropped)} groups were dropped while sampling a batch of "
                f"{self._batch_size}, the last ones for: {reasons}"
            )
