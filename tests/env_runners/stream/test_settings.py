"""The size of jobs, and what a user is told of overlap that gains nothing."""

import pytest

pytest.importorskip("ray")

from sfpo_rllib.env_runners.stream import StreamSettings


@pytest.mark.parametrize(
    ("num_groups", "num_runners", "size"),
    [(8, 0, 8), (8, 1, 8), (8, 2, 2), (9, 2, 3), (1, 4, 1), (256, 8, 16), (257, 8, 17)],
)
def test_one_runner_gets_a_batch_and_each_of_several_two_jobs(
    num_groups: int, num_runners: int, size: int
) -> None:
    assert StreamSettings(num_env_runners=num_runners).job_size(num_groups) == size
    given = StreamSettings(num_env_runners=num_runners, groups_per_job=3)
    assert given.job_size(num_groups) == 3


@pytest.mark.parametrize(
    ("staleness", "learner", "runner", "warned"),
    [(1, 0.5, 0.5, True), (0, 0.5, 0.5, False), (1, 1, 1, False), (1, 0, 0, False)],
)
def test_a_shared_gpu_is_warned_of(
    staleness: int, learner: float, runner: float, warned: bool
) -> None:
    settings = StreamSettings(staleness, num_env_runners=2)
    assert not list(settings.problems())
    warnings = settings.warnings(gpus_per_learner=learner, gpus_per_env_runner=runner)
    assert bool(list(warnings)) == warned


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        (StreamSettings(0, num_env_runners=2), 1),
        (StreamSettings(4, num_env_runners=2), 5),
        (StreamSettings(4, num_env_runners=2, weight_sync="in_flight"), 2),
        (StreamSettings(), 0),
    ],
)
def test_versions_that_are_held_for_runners_are_counted(
    settings: StreamSettings, copies: int
) -> None:
    assert not list(settings.problems())
    assert settings.weight_copies == copies
