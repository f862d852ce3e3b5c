"""What is on its way, and Ray's object store."""

from sfpo_rllib.preflight.object_store import object_store_problems

GB = 10**9


def node(size: float, *, alive: bool = True) -> dict:
    return {"Alive": alive, "Resources": {"object_store_memory": size, "CPU": 2.0}}


def test_every_machine_must_hold_them():
    nodes = [node(40 * GB), node(20 * GB), node(1 * GB, alive=False)]
    assert list(object_store_problems(20 * GB, nodes)) == []
    (problem,) = object_store_problems(30 * GB, nodes)
    assert problem.startswith("object_store_memory=20.0 GB: must be at least 30.0 GB")
    assert list(object_store_problems(1, [])) == []  # nothing is known
