"""Settings that are dicts keep the keys that are not given, whichever way they come."""

import copy
from typing import Any

import pytest
from ray import tune
from refusals import problems_of

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner

SAMPLING = {"max_tokens": 2048, "stop": ["</answer>"]}
ENGINE = {"max_model_len": 4096, "seed": 1}


def config() -> GRPOConfig:
    return GRPOConfig().env_runners(sampling=SAMPLING, engine_kwargs=ENGINE)


def by_method(config: GRPOConfig, given: dict[str, Any]) -> GRPOConfig:
    return config.env_runners(**given)


def by_dict(config: GRPOConfig, given: dict[str, Any]) -> GRPOConfig:
    return config.update_from_dict(given)


def in_evaluation(config: GRPOConfig, given: dict[str, Any]) -> GRPOConfig:
    return config.evaluation(evaluation_config=given).get_evaluation_config_object()


def in_evaluation_by_overrides(config: GRPOConfig, given: dict[str, Any]) -> GRPOConfig:
    return in_evaluation(config, GRPOConfig.overrides(**given))


def in_evaluation_of_a_trial(config: GRPOConfig, given: dict[str, Any]) -> GRPOConfig:
    space = config.evaluation(evaluation_config=given).to_dict()
    return GRPOConfig.from_dict(space).get_evaluation_config_object()


def in_a_trial_of_tunes(config: GRPOConfig, given: dict[str, Any]) -> GRPOConfig:
    """A trial is given the whole config, of which Tune has chosen some values."""
    space = config.env_runners(**{k: dict.fromkeys(v, tune.choice([1])) for k, v in given.items()})
    chosen = space.to_dict()
    for name, values in given.items():
        chosen[name].update(values)
    return GRPOConfig().update_from_dict(chosen)


WAYS = [
    by_method,
    by_dict,
    in_evaluation,
    in_evaluation_by_overrides,
    in_evaluation_of_a_trial,
    in_a_trial_of_tunes,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_keys_that_are_not_given_keep_their_value(way):
    result = way(config(), {"sampling": {"temperature": 0.5}, "engine_kwargs": {"seed": 7}})
    assert result.sampling == {**SAMPLING, "temperature": 0.5}
    assert result.sampling_settings.max_tokens == 2048
    assert result.engine_kwargs == {"max_model_len": 4096, "seed": 7}


def test_greedy_evaluation_keeps_the_length_of_replies_and_leaves_training_alone(make_config):
    trained = make_config().env_runners(sampling=SAMPLING)
    before = copy.deepcopy(trained.sampling)
    trained.evaluation(evaluation_config={"sampling": {"temperature": 0.0}})
    evaluated = trained.get_evaluation_config_object()
    assert not [p for p in evaluated.cheap_problems() if "sampling" in p]
    assert evaluated.sampling_settings.max_tokens == 2048
    assert evaluated.sampling_settings.temperature == 0.0
    assert trained.sampling == before


def test_from_dict_begins_with_the_defaults():
    made = GRPOConfig.from_dict({"sampling": {"temperature": 0.5}})
    assert made.sampling_settings.max_tokens == GRPOConfig().sampling_settings.max_tokens
    assert made.sampling == {"temperature": 0.5}


@pytest.mark.parametrize("way", [by_method, by_dict], ids=lambda way: way.__name__)
def test_the_settings_of_an_engine_do_not_stay_with_another(way):
    result = way(
        config(), {"rollout_engine": "transformers", "engine_kwargs": {"max_batch_size": 4}}
    )
    assert result.engine_kwargs == {"max_batch_size": 4}
    assert result.sampling == SAMPLING


@pytest.mark.parametrize("name", ["sampling", "engine_kwargs"])
@pytest.mark.parametrize("value", [3, None, ["a"]], ids=str)
def test_what_is_no_dict_is_refused(good, name, value):
    for config in (good.env_runners(**{name: value}), good.update_from_dict({name: value})):
        assert problems_of(config) == [f"{name}={value!r}: must be a dict"]


TAKEN_APART = [
    ("environment", "env_config", None, "must be a dict"),
    ("environment", "env_config", [("num_digits", 2)], "must be a dict"),
    ("learners", "learner_config_dict", 3, "must be a dict"),
    ("learners", "custom_resources_per_learner", None, "must be a dict of numbers"),
    ("training", "model", None, "must be left alone; use rl_module(model_config=...)"),
    ("evaluation", "evaluation_config", ["explore"], "must be a dict of settings"),
    ("multi_agent", "policies", 3, "must be left alone"),
    ("env_runners", "num_envs_per_env_runner", "4", "must be 1"),
]


@pytest.mark.parametrize(("method", "name", "value", "right"), TAKEN_APART, ids=str)
def test_what_rllib_takes_apart_is_looked_at_first(make_config, method, name, value, right):
    of_method = getattr(make_config(), method)(**{name: value})
    of_dict = make_config().update_from_dict({name: value})
    for config in (of_method, of_dict):
        problem = next(p for p in problems_of(config) if p.startswith(f"{name}={value!r}: "))
        assert right in problem


def test_the_rest_of_such_a_call_is_not_lost():
    made = GRPOConfig().environment("my/Env-v0", env_config=None)
    assert (made.env, made.env_config) == ("my/Env-v0", None)


@pytest.mark.parametrize(
    "name",
    ["evaluation_intervall", "evaluation_num_episodes", "replay_buffer_config", "multiagent", 3],
)
def test_keys_that_rllib_would_hand_to_a_method_without_them_are_refused(good, name):
    (problem,) = problems_of(good.update_from_dict({name: {"type": 4}}))
    assert problem.startswith(f"{name}={{'type': 4}}: ")


@pytest.mark.parametrize("given", ["dict", "attribute", "item"])
def test_model_and_learner_may_be_set_like_any_other_setting(good, given):
    values = {"model_config": {"model": "some/model"}, "learner_class": OwnLearner}
    if given == "dict":
        good.update_from_dict(values)
    for name, value in values.items():
        if given == "attribute":
            setattr(good, name, value)
        elif given == "item":
            good[name] = value
    assert good.model_config["model"] == "some/model"
    assert good.learner_class is OwnLearner


class OwnLearner(GRPOTorchLearner):
    """A user's."""


# Environments.

OPTIONS = {"num_digits": 3}
ONE, OTHER = "sfpo_envs:sfpo/Arithmetic-v0", "my_tasks:my/Reverse-v0"


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.environment(OTHER),
        lambda c: c.update_from_dict({"env": OTHER}),
        lambda c: c.evaluation(evaluation_config={"env": OTHER}).get_evaluation_config_object(),
        lambda c: setattr(c, "env", OTHER) or c,
        lambda c: c.__setitem__("env", OTHER) or c,
    ],
    ids=["method", "dict", "evaluation", "attribute", "item"],
)
def test_another_environment_does_not_keep_the_options_of_the_first(change):
    changed = change(SFPOConfig().environment(ONE, env_config=OPTIONS))
    assert (changed.env, changed.env_config) == (OTHER, {})


@pytest.mark.parametrize("order", [("env", "env_config"), ("env_config", "env")])
def test_options_that_come_with_another_environment_are_its_own(order):
    given = {"env": OTHER, "env_config": {"length": 5}}
    changed = SFPOConfig().environment(ONE, env_config=OPTIONS)
    changed.update_from_dict({name: given[name] for name in order})
    assert changed.env_config == {"length": 5}
    changed = SFPOConfig().environment(ONE, env_config=OPTIONS).environment(**given)
    assert changed.env_config == {"length": 5}


def test_the_same_environment_keeps_its_options_and_takes_more():
    config = SFPOConfig().environment(ONE, env_config=OPTIONS)
    assert config.environment(ONE).env_config == OPTIONS
    assert config.environment(ONE, env_config={"split": "test"}).env_config == {
        **OPTIONS,
        "split": "test",
    }
    config.evaluation(evaluation_config={"env_config": {"split": "eval"}})
    assert config.get_evaluation_config_object().env_config == {**OPTIONS, "split": "eval"}
    assert SFPOConfig.from_dict(config.to_dict()).env_config == config.env_config


def test_options_may_come_before_the_environment():
    assert SFPOConfig().environment(env_config=OPTIONS).environment(ONE).env_config == OPTIONS


def test_a_module_that_is_missing_from_an_id_is_asked_for(good):
    problem = next(p for p in good.environment("my/Reverse-v0").costly_problems() if "env" in p)
    assert problem.startswith("env='my/Reverse-v0': could not be made: ")
    assert "'my_module:my/Reverse-v0'" in problem
    # Here the module is not what is missing.
    problem = next(p for p in good.environment("sfpo/Arithmetik-v0").costly_problems())
    assert "my_module" not in problem
