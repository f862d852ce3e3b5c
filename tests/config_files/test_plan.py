"""What a config comes to, before anything starts."""

import json
from collections.abc import Callable

import pytest

pytest.importorskip("ray")

from sfpo_rllib import SFPOConfig
from sfpo_rllib.config_files import memory_of, plan_of


def test_a_plan_says_what_each_process_asks_for(good: SFPOConfig, nothing_heavy: None) -> None:
    good.env_runners(num_env_runners=3, num_cpus_per_env_runner=2).learners(num_learners=2)
    plan = plan_of(good)
    assert plan.algorithm == "SFPO"
    assert (3, {"CPU": 2.0}) in [(number, dict(each)) for number, each in plan.processes]
    assert plan.resources["CPU"] == sum(n * each.get("CPU", 0) for n, each in plan.processes) >= 8
    assert plan.changed["num_env_runners"] == 3
    assert "fast_steps" not in plan.changed and plan.settings["fast_steps"] == 3
    json.dumps(plan.settings, allow_nan=False)
    assert not good._is_frozen and good.num_env_runners == 3


def test_settings_that_differ_make_the_same_config_again(good: SFPOConfig) -> None:
    plan = plan_of(good.training(preset="official_repo", lr=1e-5))
    again = SFPOConfig()
    for name, value in plan.changed.items():
        again.update_from_dict({"_model_config" if name == "model_config" else name: value})
    assert plan_of(again).settings == plan.settings


def test_memory_is_estimated_of_what_is_not_installed_here(
    good: SFPOConfig, monkeypatch: pytest.MonkeyPatch, nothing_heavy: None
) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "vllm" else find(name))
    good.environment("nowhere:mine/Task-v0").env_runners(rollout_engine="vllm")
    assert memory_of(good, device_memory_gb=80).learner.peak > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.training(lr="high"), "lr='high': must be a number >= 0"),
        (lambda config: config.rl_module(model_config={"model": "/nowhere"}), "no such folder"),
        (lambda config: config.rl_module(model_config={"model": 3}), "must be a transformers fold"),
    ],
)
def test_memory_is_not_estimated_of_what_is_wrong(
    good: SFPOConfig, change: Callable[[SFPOConfig], object], message: str
) -> None:
    change(good)
    with pytest.raises(ValueError, match=message):
        memory_of(good)
