"""A config as a search space: Tune need not remember any of its values."""

import copy
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest

pytest.importorskip("ray")

from own_parts import CountingEngine, SignDescent
from own_rules import HeavyBall
from ray import cloudpickle, tune
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.impl.placeholder import inject_placeholders

from sfpo_rllib import GRPOConfig
from sfpo_rllib.algorithms.grpo.carried import carried, unpacked
from sfpo_rllib.core import OptimizerSpec

MakeConfig = Callable[..., Any]


class Watch(RLlibCallback):
    """A user's."""


def make_env(env_config: Mapping[str, Any]) -> Any:
    """A user's."""


def with_objects(make_config: MakeConfig) -> GRPOConfig:
    config = make_config(GRPOConfig, env=make_env, env_config={"scorers": [len, (max, 1)]})
    config.env_runners(rollout_engine=CountingEngine, engine_kwargs={"first": 5})
    config.training(optimizer=OptimizerSpec(SignDescent, shardable=False))
    return config.callbacks(Watch).training(update_rule=HeavyBall(0.25))


def test_tune_puts_no_placeholder_into_a_config(make_config: MakeConfig) -> None:
    forgotten: dict[Any, Any] = defaultdict(list)
    config = with_objects(make_config)
    config.training(lr=tune.grid_search([1e-3, 1e-4]), loss=tune.choice(["grpo", len]))
    inject_placeholders(copy.deepcopy(config.to_dict()), forgotten)
    assert not forgotten


def test_what_travels_as_a_text_arrives_as_it_was(make_config: MakeConfig) -> None:
    config = with_objects(make_config)
    arrived = GRPOConfig.from_dict(cloudpickle.loads(cloudpickle.dumps(config.to_dict())))
    assert arrived.callbacks_class is Watch
    assert arrived.env is make_env
    assert arrived.env_config == {"scorers": [len, (max, 1)]}
    assert arrived.rollout_engine is CountingEngine
    assert arrived.optimizer == OptimizerSpec(SignDescent, shardable=False)
    assert isinstance(arrived.update_rule, HeavyBall) and arrived.update_rule.momentum == 0.25


def test_resources_are_asked_for_by_a_config_or_its_dict(make_config: MakeConfig) -> None:
    config = with_objects(make_config).environment(env="sfpo_envs:sfpo/Arithmetic-v0")
    config.env_config.clear()
    of_config, of_dict = (
        config.algo_class.default_resource_request(given) for given in (config, config.to_dict())
    )
    assert of_config == of_dict


def test_plain_values_and_searches_stay_as_they_are() -> None:
    search = tune.uniform(0, 1)
    values = {"a": [1, 2.5, None, True, "text"], "b": (1,), "c": search}
    assert carried(values) == values
    assert carried(values)["c"] is search
    assert carried(tune.choice([1, 2])).categories == [1, 2]
    assert unpacked(carried({"f": [len, {"g": max}]})) == {"f": [len, {"g": max}]}
    here = f"{__name__}:Watch"
    for value, text in ((len, "builtins:len"), (Watch, here), (OptimizerSpec.__init__, None)):
        packed = json.loads(json.dumps(carried({"f": value})))
        assert text is None or packed["f"].endswith(f" imported {text}"), "one can read it"
        assert unpacked(packed) == {"f": value}
    lock = threading.Lock()
    assert carried([lock]) == [lock], "Tune will say that it cannot be pickled"


def test_a_config_is_as_sound_behind_tunes_json_with_what_tune_adds(
    make_config: MakeConfig,
) -> None:
    config = make_config(GRPOConfig)
    of_tune = {"__stdout_file__": None, "__trial_info__": "a trial"}
    arrived = GRPOConfig.from_dict(json.loads(json.dumps(config.to_dict())) | of_tune)
    assert list(arrived.cheap_problems()) == list(config.cheap_problems()) == []
