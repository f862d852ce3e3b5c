"""A signal is a request first, and an exception when its time of grace is over."""

import os
import signal
import threading
import time

import pytest

from sfpo_rllib.interrupt import BatchGivenUp, StopRequest


def send(signum: signal.Signals, after_s: float = 0.0) -> None:
    if after_s:
        threading.Timer(after_s, os.kill, (os.getpid(), signum)).start()
    else:
        signal.raise_signal(signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_what_is_under_way_goes_on(signum: signal.Signals) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    with StopRequest() as stop:
        with stop.interrupting(grace_s=60):
            send(signum)
        assert stop.signum == signum and not stop.gave_up
    assert {s: signal.getsignal(s) for s in before} == before


def test_what_takes_longer_than_its_grace_is_interrupted_whatever_it_waits_for() -> None:
    with StopRequest() as stop, pytest.raises(BatchGivenUp), stop.interrupting(grace_s=0.2):
        send(signal.SIGTERM, after_s=0.1)
        begun = time.monotonic()
        time.sleep(30)
    assert time.monotonic() - begun < 10
    assert stop.gave_up


def test_what_may_not_be_interrupted_is_not_and_what_comes_next_is() -> None:
    may: list[bool] = []
    with StopRequest() as stop, pytest.raises(BatchGivenUp):
        with stop.interrupting(grace_s=0, when=lambda: bool(may)):
            send(signal.SIGTERM)
            reached = True
        may.append(True)
        with stop.interrupting(grace_s=0, when=lambda: bool(may)):
            reached = False
    assert reached


def test_an_exception_that_something_swallows_comes_again() -> None:
    swallowed = 0
    with StopRequest() as stop, pytest.raises(BatchGivenUp), stop.interrupting(grace_s=0):
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt:
            swallowed += 1
        time.sleep(30)
    assert swallowed == 1


def test_a_second_sigterm_changes_nothing() -> None:
    with StopRequest() as stop, stop.interrupting(grace_s=60):
        send(signal.SIGTERM)
        time.sleep(0.6)
        send(signal.SIGTERM)
    assert stop.signum == signal.SIGTERM and not stop.gave_up


def test_a_second_ctrl_c_interrupts_a_shell_and_one_that_is_handed_on_twice_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    with StopRequest() as stop:
        send(signal.SIGINT)
        send(signal.SIGINT)  # of a wrapper, for the same key press
        time.sleep(0.6)
        with pytest.raises(KeyboardInterrupt) as caught:
            send(signal.SIGINT)
    assert caught.type is KeyboardInterrupt and stop.signum == signal.SIGINT


def test_handlers_that_others_have_put_there_meanwhile_are_replaced_and_the_old_ones_restored() -> (
    None
):
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.install()
        send(signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_of_the_main_thread_it_leaves_the_handlers_alone() -> None:
    found = []

    def enter() -> None:
        with StopRequest():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
