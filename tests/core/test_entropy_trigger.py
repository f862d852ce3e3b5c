"""The entropy trigger: when it fires, that it stays fired, and that it survives a checkpoint."""

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest

from sfpo_rllib.core import EntropyTrigger
from sfpo_rllib.core.entropy_trigger import trigger_problems


def z_score(window: np.ndarray) -> float:
    """Z of the newest value, which is inside the window, over the population deviation."""
    return (window[-1] - window.mean()) / (window.std(ddof=0) + 1e-9)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return 1.0 + 0.1 * np.random.default_rng(seed).normal(size=count)


def iterations_until_fired(entropies: np.ndarray, **settings: float) -> int | None:
    """The number of the entropy at which a new trigger fires, from 1 on; None if never."""
    trigger = EntropyTrigger(**settings)
    for i, entropy in enumerate(entropies, start=1):
        if trigger.update(entropy):
            return i
    return None


@pytest.mark.parametrize("window", [2, 5, 30])
def test_z_is_that_of_the_newest_value_inside_the_last_window(window):
    entropies = noise(100)
    trigger = EntropyTrigger(window=window, threshold=math.inf)
    for i, entropy in enumerate(entropies, start=1):
        assert trigger.update(entropy) is False
        if i < window:
            assert trigger.z is None
        else:
            assert trigger.z == pytest.approx(z_score(entropies[i - window : i]), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_fires_at_the_first_z_of_a_full_window_that_reaches_the_threshold(seed):
    entropies, window, threshold = noise(400, seed), 10, 1.5
    expected = next(
        i for i in range(window, 401) if z_score(entropies[i - window : i]) >= threshold
    )
    assert iterations_until_fired(entropies, window=window, threshold=threshold) == expected


def test_window_is_thirty_and_threshold_one_by_default():
    trigger = EntropyTrigger()
    assert (trigger.window, trigger.threshold) == (30, 1.0)


def test_cannot_fire_before_the_window_is_full():
    rising = np.linspace(1.0, 2.0, 40)
    assert iterations_until_fired(rising, window=30, threshold=1.0) == 30
    assert iterations_until_fired(rising[:29], window=30, threshold=1.0) is None


def test_a_z_equal_to_the_threshold_fires():
    # Mean 1 and population deviation 1, both exact.
    z = 1.0 / (1.0 + 1e-9)
    assert iterations_until_fired([0.0, 2.0], window=2, threshold=z) == 2
    assert iterations_until_fired([0.0, 2.0], window=2, threshold=math.nextafter(z, 2)) is None


def test_is_one_sided():
    flat = [1.0, 1.01] * 20
    assert iterations_until_fired([*flat, 0.0], window=30, threshold=1.1) is None
    assert iterations_until_fired([*flat, 2.0], window=30, threshold=1.1) == 41


def test_constant_entropy_has_a_z_of_zero():
    trigger = EntropyTrigger(window=3, threshold=1e-3)
    for _ in range(10):
        assert trigger.update(0.1) is False
    assert trigger.z == pytest.approx(0.0, abs=1e-6)


def test_stays_fired_and_stops_moving():
    trigger = EntropyTrigger(window=3, threshold=1.0)
    assert [trigger.update(h) for h in (1.0, 1.0, 2.0)] == [False, False, True]
    state, z = trigger.state_dict(), trigger.z
    for entropy in (1.0, 0.5, 0.0, 0.0, 0.0, 0.0):
        assert trigger.update(entropy) is True
    assert trigger.fired
    assert trigger.z == z
    assert trigger.state_dict() == state


@pytest.mark.parametrize("through", [lambda s: json.loads(json.dumps(s)), pickle.dumps])
@pytest.mark.parametrize("saved_after", [0, 7, 30, 35, 200])
def test_goes_on_identically_from_its_state(saved_after, through):
    entropies = noise(300, seed=3)
    trigger = EntropyTrigger(window=30, threshold=2.0)
    for entropy in entropies[:saved_after]:
        trigger.update(float(entropy))
    state = through(trigger.state_dict())
    restored = EntropyTrigger(window=30, threshold=2.0)
    restored.load_state_dict(pickle.loads(state) if isinstance(state, bytes) else state)
    assert (restored.fired, restored.z) == (trigger.fired, trigger.z)
    for entropy in entropies[saved_after:]:
        assert restored.update(entropy) == trigger.update(entropy)
        assert restored.z == trigger.z
    assert trigger.fired  # else this compares little


def test_its_state_is_a_copy():
    trigger = EntropyTrigger(window=3, threshold=math.inf)
    trigger.update(1.0)
    state = trigger.state_dict()
    restored = EntropyTrigger(window=3, threshold=math.inf)
    restored.load_state_dict(state)
    trigger.update(2.0)
    restored.update(3.0)
    assert state["entropies"] == [1.0]


def test_a_smaller_window_keeps_the_newest_values_of_a_state():
    entropies = noise(20)
    long, short = (EntropyTrigger(window=w, threshold=math.inf) for w in (10, 4))
    for entropy in entropies[:-1]:
        long.update(entropy)
    short.load_state_dict(long.state_dict())
    short.update(entropies[-1])
    assert short.z == pytest.approx(z_score(entropies[-4:]))


@pytest.mark.parametrize("entropy", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("before", [[], [1.0, 1.0], [1.0, 1.0, 2.0]])
def test_an_entropy_that_is_not_finite_raises_and_leaves_it_as_it_was(before, entropy):
    trigger = EntropyTrigger(window=3, threshold=1.0)
    for value in before:
        trigger.update(value)
    state = trigger.state_dict()
    with pytest.raises(ValueError, match=rf"^entropy={entropy}: must be finite"):
        trigger.update(entropy)
    assert trigger.state_dict() == state


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        *(({"window": w}, "window") for w in (1, 0, -30, 30.0, "30", None, True)),
        *(({"threshold": t}, "threshold") for t in (math.nan, "1", None)),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, field):
    with pytest.raises(ValueError, match=f"^{field}={settings[field]!r}: must be"):
        EntropyTrigger(**settings)


def test_on_flat_noise_most_runs_fire_within_ten_and_nearly_all_within_thirty_of_a_full_window():
    runs = [
        iterations_until_fired(noise(60, seed), window=30, threshold=1.0) for seed in range(800)
    ]
    by_40 = np.mean([run is not None and run <= 40 for run in runs])
    by_60 = np.mean([run is not None for run in runs])
    assert 0.84 <= by_40 <= 0.90  # 87%, the deviation of the mean being 1.2%
    assert by_60 > 0.99


@pytest.mark.parametrize("shape", ["linear", "exponential"])
def test_on_a_steady_decline_never_fires(shape):
    steps = np.arange(400)
    falling = 2.0 - 0.004 * steps if shape == "linear" else 2.0 * np.exp(-0.01 * steps)
    for seed in range(3):
        jitter = np.random.default_rng(seed).normal(size=400)
        slope = -np.gradient(falling)
        entropies = falling + slope * jitter  # noise as large as what it falls by in a step
        assert iterations_until_fired(entropies, window=30, threshold=1.0) is None


# Warm-up and patience.

RISING = [1.0, 1.0, 2.0, 3.0, 1.0, 4.0, 6.0, 9.0]  # z >= 0.5 at 2, 3, 5, 6, 7 with a window of 3


def fired_at(**settings: int) -> int | None:
    trigger = EntropyTrigger(window=3, threshold=0.5, **settings)
    for i, entropy in enumerate(RISING):
        if trigger.update(entropy):
            return i
    return None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 2),
        ({"patience": 2}, 3),
        ({"patience": 3}, 7),  # one below between them begins anew
        ({"patience": 4}, None),
        ({"warmup": 2}, 2),
        ({"warmup": 3}, 3),  # the first three cannot fire it
        ({"warmup": 4}, 5),
        ({"warmup": 8}, None),
        ({"warmup": 3, "patience": 2}, 6),  # nor count towards the patience
    ],
    ids=str,
)
def test_it_waits_for_its_warm_up_and_for_as_many_in_a_row_as_its_patience(
    settings: dict[str, int], expected: int | None
) -> None:
    assert fired_at(**settings) == expected


@pytest.mark.parametrize("saved_after", range(1, 7))
def test_warm_up_and_patience_go_on_from_a_state(saved_after: int) -> None:
    def make() -> EntropyTrigger:
        return EntropyTrigger(window=3, threshold=0.5, warmup=3, patience=2)

    first, second, whole = make(), make(), make()
    expected = [whole.update(entropy) for entropy in RISING]
    assert expected.index(True) == 6
    actual = [first.update(entropy) for entropy in RISING[:saved_after]]
    second.load_state_dict(first.state_dict())
    assert actual + [second.update(entropy) for entropy in RISING[saved_after:]] == expected


def test_a_state_of_an_earlier_release_has_seen_what_its_window_has() -> None:
    trigger = EntropyTrigger(window=3, threshold=0.5, warmup=4, patience=2)
    trigger.load_state_dict({"entropies": [1.0, 1.0, 2.0], "fired": False, "z": 1.4})
    assert [trigger.update(entropy) for entropy in (3.0, 4.0, 6.0)] == [False, False, True]


@pytest.mark.parametrize("window", [2, 5, 10, 17, 30])
def test_a_threshold_is_refused_from_the_one_on_that_no_z_score_reaches(window: int) -> None:
    bound = math.sqrt(window - 1)
    highest = EntropyTrigger(window, threshold=math.inf)
    for entropy in [0.0] * (window - 1) + [1.0]:  # no newest value stands out more
        highest.update(entropy)
    assert highest.z is not None and highest.z < bound
    (problem,) = trigger_problems(window, bound, must_fire=True)
    assert "would never fire" in problem
    assert not trigger_problems(window, highest.z, must_fire=True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"warmup": -1}, "warmup=-1: must be an integer >= 0"),
        ({"warmup": 1.0}, "warmup=1.0: must be an integer >= 0"),
        ({"patience": 0}, "patience=0: must be an integer >= 1"),
        ({"patience": True}, "patience=True: must be an integer >= 1"),
    ],
)
def test_a_warm_up_or_patience_out_of_range_is_refused(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        EntropyTrigger(**settings)
