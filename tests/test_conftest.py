"""What the tests start: a test that is not marked for it cannot start ray, here or elsewhere."""

import subprocess
import sys

import pytest

START_RAY = "import ray; ray.init(num_cpus=1, include_dashboard=False)"


def test_a_test_is_marked_by_the_fixtures_that_it_uses(request: pytest.FixtureRequest) -> None:
    uses = {"ray": {"ray_cluster", "ray_elsewhere"}, "vllm": {"vllm_installed"}}
    for item in request.session.items:
        for mark, fixtures in uses.items():
            marked = item.get_closest_marker(mark) is not None
            assert marked == bool(fixtures & set(item.fixturenames)), item.nodeid


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
