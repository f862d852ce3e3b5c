"""A collection: given problems once, beside the stream, as an evaluation asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sfpo_rllib.env_runners.remote_group import Group
from sfpo_rllib.env_runners.rollout import RolloutJob
from sfpo_rllib.env_runners.stream.fleet import Fleet
from sfpo_rllib.env_runners.stream.ledger import Ledger, cut
from sfpo_rllib.env_runners.stream.settings import share


@dataclass
class Collection:
    """What came of a collection.

    Attributes:
        weights_version: Of the weights that all groups were sampled under.
        groups: Whole groups in the order of their seeds.
        dropped: Seeds whose environment or prompt failed, with the reason.
        given_up: Those of `dropped` that were not sampled in `MAX_ATTEMPTS` attempts.
        num_envs_timed_out: Environments that were left behind in a reset or step.
        num_runners_lost: Runners that died or were replaced while sampling.
        num_groups_reissued: Groups that were asked for again, after a deadline or a lost runner.
        runner_metrics: What callbacks logged in the runners.
    """

    weights_version: int
    groups: list[Group] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)
    num_envs_timed_out: int = 0
    num_runners_lost: int = 0
    num_groups_reissued: int = 0
    runner_metrics: list[Any] = field(default_factory=list)


def collect(
    fleet: Fleet,
    seeds: Sequence[int],
    *,
    weights_version: int,
    stream: tuple[int | str, ...],
    evaluation: bool,
    timeout_s: float,
    num_runners: int,
) -> Collection:
    """Samples one group a seed, and waits for all.

    Jobs that the runners have been given already come first. The seeds of a runner that is lost,
    or that did not finish them in time, are issued again. One for which that goes on is found by
    asking for it alone, and dropped.

    Args:
        fleet: Samples.
        seeds: One a group, all different.
        weights_version: What the engines must run.
        stream: See `RolloutJob`.
        evaluation: See `RolloutJob`.
        timeout_s: Of a job.
        num_runners: Of the fleet.

    Returns:
        The groups and what was dropped: together they are all of `seeds`.

    Raises:
        RuntimeError: If no runner is healthy, or none of the seeds can be sampled.
    """
    ledger, lost_before = Ledger(num_runners), fleet.num_lost
    for part in cut(seeds, share(len(seeds), num_runners)):
        ledger.open(RolloutJob(part, weights_version, stream, evaluation, timeout_s))
    with fleet.working_on(ledger):
        fleet.work(until=lambda: ledger.is_whole)
    collection = Collection(
        weights_version,
        num_envs_timed_out=ledger.counts["num_envs_timed_out"],
        num_groups_reissued=ledger.counts["num_groups_reissued"],
        num_runners_lost=fleet.num_lost - lost_before,
        runner_metrics=ledger.runner_metrics,
    )
    fleet.num_lost = lost_before
    for seed, outcome in ledger.outcomes():
        if outcome.group is not None:
            collection.groups.append(outcome.group)
        else:
            collection.dropped[seed] = outcome.reason
            collection.given_up += [seed] * outcome.given_up
    return collection
