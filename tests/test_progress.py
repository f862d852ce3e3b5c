"""A run is never silent for long, and says how long it will take."""

import time

import pytest

from sfpo_rllib.progress import Heartbeat, Progress


def result(iteration: int, **more: object) -> dict:
    return {"training_iteration": iteration, "time_this_iter_s": 2.0, **more}


def test_silence_is_broken_by_what_is_under_way_and_for_how_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Heartbeat("loading", every_s=0.2) as heartbeat:
        time.sleep(0.5)
        heartbeat.doing("training")
        time.sleep(0.5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "      loading: 0 s" and lines[-1].startswith("      training: ")
    time.sleep(0.3)
    assert capsys.readouterr().out == ""


def test_who_speaks_is_not_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    with Heartbeat("loading", every_s=0.5) as heartbeat:
        for _ in range(8):
            heartbeat.say("a line")
            time.sleep(0.1)
    assert set(capsys.readouterr().out.splitlines()) == {"a line"}


def test_the_time_that_is_left_follows_from_this_sessions_iterations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress(160)  # goes on from iteration 100
    now += 50  # the engine starts
    for iteration in (101, 102):
        now += 2
        progress(None, result(iteration))
    now += 6
    progress(None, result(103, evaluation={"env_runners": {"accuracy": 0.5}}))
    first, second, third, held_out = capsys.readouterr().out.splitlines()
    assert first.endswith("  1:58 left")  # 59 of 2 s
    assert second.endswith("  1:56 left")
    assert third.endswith("  3:10 left")  # 57 of 10 / 3 s
    assert held_out.strip() == "held-out accuracy 0.500"
