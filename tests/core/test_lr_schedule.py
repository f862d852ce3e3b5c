"""Learning rates by batch: warm-up, decay, bounds, refusals."""

import math

import pytest

from sfpo_rllib.core.lr_schedule import LRSchedule, timestep_schedule_problems


def rates(num_batches: int, **settings) -> list[float]:
    schedule = LRSchedule(1.0, **settings)
    return [schedule.at(batch) for batch in range(num_batches)]


def test_constant_is_the_rate_at_every_batch() -> None:
    assert rates(3) == [1.0, 1.0, 1.0]


def test_warm_up_rises_in_equal_steps_and_trains_the_first_batch() -> None:
    assert rates(6, lr_warmup_batches=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_warm_up_over_steps_rises_in_equal_steps_to_the_batchs_rate_and_stays() -> None:
    schedule = LRSchedule(1.0, lr_warmup_steps=3, lr_schedule="linear", lr_total_batches=4)
    assert [schedule.warmup_share(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [schedule.at(batch) for batch in range(3)] == [1.0, 0.75, 0.5]
    assert {LRSchedule(1.0).warmup_share(step) for step in range(3)} == {1.0}


def test_linear_falls_in_equal_steps_to_its_least_share_and_stays() -> None:
    got = rates(8, lr_schedule="linear", lr_warmup_batches=1, lr_total_batches=5, lr_min_ratio=0.2)
    assert got == pytest.approx([0.5, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_cosine_is_halfway_at_half_time_and_ends_at_its_least_share() -> None:
    got = rates(12, lr_schedule="cosine", lr_total_batches=10, lr_min_ratio=0.1)
    assert got[0] == 1.0 and got[5] == pytest.approx(0.55)
    assert got[1] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 10)) / 2)
    assert got[10] == got[11] == pytest.approx(0.1)
    assert got == sorted(got, reverse=True)


def test_no_batch_before_the_last_is_trained_at_zero() -> None:
    for kind in ("linear", "cosine"):
        got = rates(20, lr_schedule=kind, lr_warmup_batches=5, lr_total_batches=20)
        assert min(got) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr=-1.0: must be a number >= 0"),
        ({"lr": math.nan}, "lr=nan: must be a number >= 0"),
        ({"lr": "1e-6"}, "lr='1e-6': must be a number >= 0"),
        ({"lr_schedule": "step"}, "lr_schedule='step': must be one of"),
        ({"lr_schedule": None}, "lr_schedule=None: must be one of"),
        ({"lr_warmup_batches": -1}, "lr_warmup_batches=-1: must be an integer >= 0"),
        ({"lr_warmup_batches": 1.5}, "lr_warmup_batches=1.5: must be an integer >= 0"),
        ({"lr_warmup_steps": -1}, "lr_warmup_steps=-1: must be an integer >= 0"),
        ({"lr_warmup_steps": 2.0}, "lr_warmup_steps=2.0: must be an integer >= 0"),
        (
            {"lr_warmup_steps": 2, "lr_warmup_batches": 3},
            "lr_warmup_steps=2: must be 0 with lr_warmup_batches=3",
        ),
        ({"lr_schedule": "cosine"}, "lr_total_batches=None: must be an integer with lr_schedule="),
        (
            {"lr_schedule": "linear", "lr_warmup_batches": 5, "lr_total_batches": 5},
            "lr_total_batches=5: must be above lr_warmup_batches=5",
        ),
        ({"lr_total_batches": 9}, "lr_total_batches=9: must be None with lr_schedule='constant'"),
        ({"lr_min_ratio": 0.1}, "lr_min_ratio=0.1: must be 0.0 with lr_schedule='constant'"),
        ({"lr_min_ratio": 1.1}, "lr_min_ratio=1.1: must be a number in [0, 1]"),
    ],
)
def test_settings_out_of_range_are_refused_by_field(settings: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        LRSchedule(**{"lr": 1.0, **settings})
    assert str(caught.value).startswith(message)


BAD_TIMES = [[0, 9, 5], [0, 5, 5], [0, None], [0, "9"], [0, math.nan], [0, True], [1, 2], [0]]


@pytest.mark.parametrize("times", BAD_TIMES, ids=str)
def test_timesteps_that_do_not_rise_from_0_are_refused(times: list) -> None:
    (problem,) = timestep_schedule_problems([[time, 1e-3] for time in times], LRSchedule(0.0))
    assert problem.startswith("lr=[[") and "rise from" in problem


def test_timesteps_that_rise_are_a_schedule() -> None:
    assert not timestep_schedule_problems([(0, 1e-3), (1e6, 1e-4), (2e6, 0.0)], LRSchedule(0.0))
