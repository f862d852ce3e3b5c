"""What is asked for is compared with what the nodes of the cluster have."""

import logging

import pytest

from sfpo_rllib import SFPO
from sfpo_rllib.algorithms.grpo import autoscaling, resources
from sfpo_rllib.algorithms.grpo.autoscaling import has_named_types
from sfpo_rllib.algorithms.grpo.resources import shortages

NODE = {"CPU": 8.0, "GPU": 4.0}


def test_what_fits_is_short_of_nothing():
    driver, learner, runner = {"CPU": 1.0}, {"CPU": 1.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.5}
    assert not [*shortages([driver, learner, learner, learner] + [runner] * 4, [NODE, NODE])]


@pytest.mark.parametrize(
    ("processes", "nodes", "problem"),
    [
        ([{"GPU": 1.0}] * 3, [{"GPU": 2.0}], "GPU=3: the cluster has 2"),
        ([{"GPU": 1.0}], [{"CPU": 2.0}], "GPU=1: the cluster has 0"),
        ([{"CPU": 4.0}], [], "CPU=4: the cluster has 0"),
        # Enough in all, and not on one node.
        ([{"GPU": 2.0}], [{"GPU": 1.0}] * 2, "GPU=2 for each of 1 processes: .* room for 0"),
        ([{"GPU": 2.0}] * 3, [{"GPU": 3.0}] * 2, "GPU=2 for each of 3 processes: .* room for 2"),
        ([{"CPU": 8.0}], [{"CPU": 4.0}] * 2, "CPU=8 for each of 1 .* with 4, 4, have room for 0"),
        # Shares are each of one GPU.
        ([{"GPU": 0.6}] * 3, [{"GPU": 2.0}], "GPU=0.6 for each of 3 processes: .* room for 2"),
        (
            [{"CPU": 8.0, "GPU": 1.0}],
            [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}],
            "'CPU': 8.0, 'GPU': 1.0} for one process: no node of the cluster has all of it",
        ),
    ],
)
def test_what_does_not_fit_is_named_once(processes, nodes, problem):
    (found,) = shortages(processes, nodes)
    with pytest.raises(ValueError, match=problem):
        raise ValueError(found)


@pytest.fixture
def two_nodes(monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}} for _ in range(2)]
    gone = {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}}
    monkeypatch.setattr(resources.ray, "nodes", lambda: [*nodes, gone])
    monkeypatch.setattr(resources.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(resources.ray.util, "get_current_placement_group", lambda: None)


def test_an_engine_of_two_gpus_does_not_fit_two_nodes_of_one(good, two_nodes, monkeypatch):
    monkeypatch.setattr(resources, "cluster_can_grow", lambda: False)
    good.env_runners(num_env_runners=1, num_gpus_per_env_runner=1)
    resources.check_cluster_resources(SFPO, good)
    good.env_runners(num_gpus_per_env_runner=2)
    with pytest.raises(ValueError, match="GPU=2 for each of 1 processes"):
        resources.check_cluster_resources(SFPO, good)


def test_a_cluster_that_can_grow_is_warned_about(good, two_nodes, monkeypatch, caplog):
    monkeypatch.setattr(resources, "cluster_can_grow", lambda: True)
    good.learners(num_learners=8, num_gpus_per_learner=1)
    with caplog.at_level(logging.WARNING):
        resources.check_cluster_resources(SFPO, good)
    assert "GPU=8: the cluster has 2" in caplog.text


def test_nodes_of_an_autoscaler_are_of_types_that_its_config_names():
    assert not has_named_types({})
    assert not has_named_types({"aafd54": "node_aafd54", "0b1c": "node_0b1c"})
    assert has_named_types({"192.0.2.2": "ray.head.default"})


def test_a_cluster_of_its_own_cannot_grow(ray_cluster):
    assert not autoscaling.cluster_can_grow()
