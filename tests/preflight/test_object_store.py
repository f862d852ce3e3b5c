"""The weights on their way, and Ray's object store."""

import pytest

from sfpo_rllib.preflight.object_store import held_bytes, object_store_problems

GB = 10**9


@pytest.mark.parametrize(("staleness", "copies"), [(0, 1), (1, 2), (4, 5)])
def test_a_version_is_held_for_each_update_that_sampling_may_be_behind(staleness, copies):
    settings = {"weights": 15 * GB, "max_staleness": staleness}
    assert held_bytes(**settings, weight_transport="object_store") == copies * 15 * GB
    assert held_bytes(**settings, weight_transport="nccl") == 0


def node(size: float, *, alive: bool = True) -> dict:
    return {"Alive": alive, "Resources": {"object_store_memory": size, "CPU": 2.0}}


def test_every_machine_must_hold_them():
    nodes = [node(40 * GB), node(20 * GB), node(1 * GB, alive=False)]
    assert list(object_store_problems(20 * GB, nodes)) == []
    (problem,) = object_store_problems(30 * GB, nodes)
    assert problem.startswith("object_store_memory=20.0 GB: must be at least 30.0 GB")
    assert list(object_store_problems(1, [])) == []  # nothing is known
