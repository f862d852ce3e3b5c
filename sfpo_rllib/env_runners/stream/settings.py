"""How far sampling may be ahead of learning, and in what pieces it goes."""

from collections.abc import Iterator
from dataclasses import dataclass

from sfpo_rllib.core.checks import is_int

WEIGHT_SYNC = ("between_batches", "in_flight")
# Jobs of a batch that a runner gets when all are equally fast: the slowest holds up one of them.
JOBS_A_RUNNER = 2


@dataclass(frozen=True)
class StreamSettings:
    """Settings of the stream of groups.

    Attributes:
        max_staleness: S: batch t is sampled under the weights after update max(0, t - S).
        groups_per_job: Groups that a runner is asked for at once. None: a whole batch with one
            runner, else a share of `JOBS_A_RUNNER` jobs a runner.
        num_env_runners: Processes that sample; 0: the driver does.
        weight_sync: When a runner takes new weights: before a job that names them, or between any
            two steps of its engine.
    """

    max_staleness: int = 0
    groups_per_job: int | None = None
    num_env_runners: int = 0
    weight_sync: str = "between_batches"

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        if not is_int(self.max_staleness, 0):
            yield (
                f"max_staleness={self.max_staleness!r}: must be an integer >= 0, the number of "
                "updates that the weights may be behind which a batch is sampled from"
            )
        elif self.max_staleness > 0 and self.num_env_runners == 0:
            yield (
                f"max_staleness={self.max_staleness}: must be 0 with num_env_runners=0, or "
                "num_env_runners >= 1: the driver cannot sample and learn at the same time"
            )
        if self.groups_per_job is not None and not is_int(self.groups_per_job, 1):
            yield f"groups_per_job={self.groups_per_job!r}: must be None or an integer >= 1"
        if self.weight_sync not in WEIGHT_SYNC:
            yield f"weight_sync={self.weight_sync!r}: must be one of {WEIGHT_SYNC}"
        elif self.weight_sync == "in_flight" and self.max_staleness == 0:
            yield (
                "weight_sync='in_flight': must be 'between_batches' with max_staleness=0, or "
                "max_staleness >= 1: without, nothing is in flight when there are new weights"
            )

    def warnings(self, *, gpus_per_learner: float, gpus_per_env_runner: float) -> Iterator[str]:
        """What works, and gains nothing."""
        if self.max_staleness and 0 < gpus_per_learner < 1 and 0 < gpus_per_env_runner < 1:
            yield (
                f"max_staleness={self.max_staleness}: learner and engine seem to share a GPU "
                f"(num_gpus_per_learner={gpus_per_learner:g}, num_gpus_per_env_runner="
                f"{gpus_per_env_runner:g}), where they slow each other down; with one GPU each "
                "sampling and learning overlap"
            )

    @property
    def weight_copies(self) -> int:
        """Versions of the weights that are held for runners in other processes."""
        if not self.num_env_runners:
            return 0
        # In flight: the newest, and those before it as long as a runner is reading them.
        return 2 if self.weight_sync == "in_flight" else self.max_staleness + 1

    @property
    def open_batches(self) -> int:
        """Batches that runners in other processes hold for the learners."""
        return self.max_staleness + 1 if self.num_env_runners else 0

    def job_size(self, num_groups: int) -> int:
        """Groups of one job.

        Args:
            num_groups: Groups that are asked for together.
        """
        return self.groups_per_job or share(num_groups, self.num_env_runners)


def share(num_groups: int, num_runners: int) -> int:
    """Groups of one job, so that each of several runners gets `JOBS_A_RUNNER`."""
    return num_groups if num_runners <= 1 else -(-num_groups // (JOBS_A_RUNNER * num_runners))
