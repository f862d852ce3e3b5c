"""Workers that have torch before they start."""

import sys

import pytest

pytest.importorskip("ray")
import ray
from warm_programs import ADDRESS, MODULES, hand_over, possible


def test_a_worker_has_torch_at_once_and_imports_the_package_on_its_own(ray_cluster: None) -> None:
    if not possible():
        pytest.skip("not here")

    @ray.remote
    def imported() -> list[str]:
        return list(sys.modules)

    names = ray.get(imported.remote())
    assert {"torch", *MODULES} - {"torchvision"} <= set(names)
    assert names.index("torch") < names.index("ray")
    assert not [name for name in names if name.split(".")[0] in ("sfpo_rllib", "sfpo_envs")]


def test_a_worker_starts_as_ever_where_nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS, "/no/such/socket")
    hand_over()
