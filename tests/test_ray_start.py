import socket
import time
from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from sfpo_rllib.ray_start import RayDidNotStart, start_ray


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_ray_is_tried_twice_and_then_it_is_said_in_one_line(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, Any]] = []

    def init(**settings: Any) -> None:
        tried.append(settings)
        if len(tried) <= failures:
            raise RuntimeError(f"no room {len(tried)}\nand more")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    said: list[str] = []
    if failures == 2:
        with pytest.raises(RayDidNotStart) as caught:
            start_ray(say=said.append, num_cpus=3)
        assert str(caught.value) == "ray does not start, twice tried: no room 2"
    else:
        start_ray(say=said.append, num_cpus=3)
    assert tried == [{"num_cpus": 3}] * min(failures + 1, 2)
    assert said == ["ray did not start (no room 1); once more"] * bool(failures)


def test_what_asks_the_process_to_end_is_no_reason_to_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Ray makes of a SIGTERM, and Ctrl-C."""
    for asked in (SystemExit(1), KeyboardInterrupt()):

        def init(asked: BaseException = asked) -> None:
            raise asked

        monkeypatch.setattr(ray, "init", init)
        with pytest.raises(type(asked)):
            start_ray(say=lambda line: pytest.fail(line))


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "[::1]", ""])
def test_a_cluster_that_is_not_there_is_said_at_once(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"{host}:{port}")
    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("tried"))
    start = time.monotonic()
    with pytest.raises(RayDidNotStart, match=rf"RAY_ADDRESS='.*:{port}': must be where .* listens"):
        start_ray(say=lambda line: pytest.fail(line))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("address", ["", "auto", "local", "ray://127.0.0.1:1", "HOST:PORT"])
def test_what_is_no_host_and_port_is_left_to_ray(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, Any]] = []
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", lambda **settings: tried.append(settings))
    start_ray()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start_ray(address="local")
    assert tried == [{}, {"address": "local"}]


def test_a_cluster_that_listens_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, Any]] = []
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{cluster.getsockname()[1]}")
        monkeypatch.setattr(ray, "init", lambda **settings: tried.append(settings))
        start_ray()
    assert tried == [{}]
