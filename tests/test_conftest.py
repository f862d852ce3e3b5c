"""What the tests start: a test that is not marked for it cannot start ray, here or elsewhere."""

import subprocess
import sys

import pytest

START_RAY = "import ray; ray.init(num_cpus=1, include_dashboard=False)"


def test_a_test_is_marked_by_the_fixtures_that_it_uses(request: pytest.FixtureRequest) -> None:
    marked = {item.name: item for item in request.session.items if item.path == request.path}
    assert not any(request.node.get_closest_marker(mark) for mark in ("ray", "vllm"))
    others = [item for item in request.session.items if "running" in item.fixturenames]
    assert request.node.name in marked
    assert all(item.get_closest_marker("ray") for item in others)


@pytest.mark.parametrize("code", [START_RAY, "import ray; ray.remote(int).remote()"])
def test_an_unmarked_test_cannot_start_ray_in_a_process_of_its_own(code: str) -> None:
    pytest.importorskip("ray")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "a test that starts ray uses ray_cluster" in done.stderr


def test_an_unmarked_test_cannot_start_ray_in_this_process() -> None:
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        pytest.skip("there is the one of tests before this one")
    with pytest.raises(ValueError, match="existing cluster"):
        ray.init(num_cpus=1)
    assert not ray.is_initialized()
