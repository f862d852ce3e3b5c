"""RLlib's own settings: each is honoured or refused by name, so that none is ignored."""

import math
from typing import Any

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from refusals import one_problem, problems_of

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo.rllib_settings import (
    HARMLESS,
    HONOURED,
    KEYWORDS,
    WHY,
    refused,
)

pytestmark = pytest.mark.usefixtures("nothing_heavy")

RLLIBS = sorted(vars(AlgorithmConfig()))
# What their own checks say more about.
CHECKED_ELSEWHERE = {
    *("env", "evaluation_config", "optimizer", "policies", "callbacks_class"),
    *("_model_config", "_rl_module_spec"),
}


@pytest.mark.parametrize("name", RLLIBS)
def test_each_setting_of_rllib_is_decided_on_once(name):
    assert [name in table for table in (HONOURED, refused(), HARMLESS)].count(True) == 1


def test_nothing_is_decided_on_that_rllib_does_not_have():
    assert {*HONOURED, *HARMLESS, *WHY} <= {*RLLIBS}
    assert not WHY.keys() & {*HONOURED, *HARMLESS}


def another(default: Any) -> Any:
    """A value that is not the default, of its type where that has another one."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 3
    if isinstance(default, dict):
        return {**default, "another": 1}
    return "another"


@pytest.mark.parametrize("name", refused())
def test_a_setting_that_nothing_reads_is_refused_by_name(make_config, name):
    config = make_config()
    setattr(config, name, another(getattr(config, name)))
    problems = [p for p in config.cheap_problems() if p.startswith(f"{KEYWORDS.get(name, name)}=")]
    assert len(problems) == 1 and ": must be " in problems[0]
    assert "\n" not in problems[0] and len(problems[0]) < 1000


@pytest.mark.parametrize("name", sorted(HONOURED.keys() - CHECKED_ELSEWHERE))
@pytest.mark.parametrize("value", [-1.5, math.nan, math.inf, "x"], ids=str)
def test_a_value_that_makes_no_sense_is_refused_by_name(make_config, name, value):
    config = make_config()
    vars(config)[name] = value
    field = {"_train_batch_size_per_learner": "train_batch_size_per_learner"}.get(name, name)
    problems = list(config.cheap_problems())
    assert any(problem.startswith(f"{field.removeprefix('_')}=") for problem in problems), problems


PARTS = [
    ("debugging", "log_level", "VERBOSE", "one of ['DEBUG', ", " or None"),
    ("debugging", "log_level", "debug", "one of ['DEBUG', ", " or None"),
    ("learners", "num_gpus_per_learner", 2, "number in [0, 1]", "more learners"),
    ("env_runners", "num_gpus_per_env_runner", 1.5, "whole one above 1"),
    ("env_runners", "custom_resources_per_env_runner", {"x": -1}, "numbers >= 0"),
    ("env_runners", "custom_resources_per_env_runner", {"GPU": 1}, "without 'CPU' and 'GPU'"),
    ("learners", "custom_resources_per_learner", {"x": "y"}, "numbers >= 0"),
    ("resources", "custom_resources_for_main_process", {3: 1}, "numbers >= 0"),
    ("framework", "torch_ddp_kwargs", {"bucket_size": 1}, "'bucket_cap_mb'"),
]


@pytest.mark.parametrize(
    ("method", "field", "value", "right"), [(m, f, v, r) for m, f, v, *r in PARTS]
)
def test_what_ray_and_torch_would_stumble_over_is_refused(good, method, field, value, right):
    getattr(good, method)(**{field: value})
    one_problem(good, field, value, *right)


def test_what_ray_and_torch_take_passes(good):
    good.debugging(log_level=10).framework(torch_ddp_kwargs={"bucket_cap_mb": 5}).validate()
    good.env_runners(num_gpus_per_env_runner=2, custom_resources_per_env_runner={"x": 0.5})
    good.learners(num_gpus_per_learner=0.5).validate()


def test_own_classes_of_stats_come_beside_rllibs(good):
    stats = good.stats_cls_lookup
    good.reporting(custom_stats_cls_lookup={**stats, "mine": stats["mean"]}).validate()
    for given in ({"mine": stats["mean"]}, {**stats, "mine": 1}, {**stats, "mine": dict}):
        good.reporting(custom_stats_cls_lookup=given)
        one_problem(good, "stats_cls_lookup", given, "subclasses of StatsBase")


BY_METHOD = [
    ("framework", {"framework": "tf2"}),
    ("api_stack", {"enable_rl_module_and_learner": False}),
    ("environment", {"clip_rewards": True}),
    ("environment", {"is_atari": True}),
    ("environment", {"normalize_actions": False}),
    ("env_runners", {"num_envs_per_env_runner": 4}),
    ("env_runners", {"rollout_fragment_length": 50}),
    ("env_runners", {"sample_timeout_s": 60.0}),
    ("env_runners", {"env_to_module_connector": print}),
    ("env_runners", {"module_to_env_connector": print}),
    ("env_runners", {"observation_filter": "MeanStdFilter"}),
    ("learners", {"num_aggregator_actors_per_learner": 1}),
    ("training", {"gamma": 0.9}),
    ("training", {"train_batch_size": 4000}),
    ("training", {"shuffle_batch_per_epoch": True}),
    ("training", {"model": {"fcnet_hiddens": [8]}}),
    ("offline_data", {"input_": "some/folder"}),
    ("offline_data", {"output": "some/folder"}),
    ("evaluation", {"evaluation_parallel_to_training": True}),
    ("evaluation", {"evaluation_sample_timeout_s": 5.0}),
    ("multi_agent", {"policy_mapping_fn": print}),
    ("reporting", {"metrics_num_episodes_for_smoothing": 5}),
    ("reporting", {"log_gradients": True}),
    ("resources", {"num_gpus": 1}),
    ("experimental", {"_validate_config": False}),
]


@pytest.mark.parametrize(
    ("method", "given"), BY_METHOD, ids=lambda v: v if isinstance(v, str) else "-".join(v)
)
def test_what_a_method_of_rllib_was_given_in_vain_is_refused_under_its_keyword(good, method, given):
    getattr(good, method)(**given)
    (keyword,) = given
    assert all(problem.startswith(f"{keyword}=") for problem in problems_of(good))


@pytest.mark.parametrize("value", [int, [RLlibCallback, dict]], ids=str)
def test_callbacks_that_are_none_are_refused(good, value):
    good.callbacks(callbacks_class=[RLlibCallback, lambda: RLlibCallback()]).validate()
    one_problem(good.callbacks(callbacks_class=value), "callbacks_class", value, "RLlibCallback")


@pytest.mark.parametrize(
    "name",
    [f"min_{what}_per_iteration" for what in ("time_s", "sample_timesteps", "train_timesteps")],
)
def test_an_iteration_is_one_batch_that_can_be_given_up(good, name):
    for none in (None, 0):
        good.reporting(**{name: none}).validate()
    good.reporting(**{name: 48})
    one_problem(good, name, 48, "must be None or 0", "an iteration is one batch")


MINUS_ONE = [
    ("training", "lr", -1.0, "number >= 0"),
    ("training", "lr", -1, "number >= 0"),
    ("training", "lr", [[0, 1e-6], [10, -1.0]], "number >= 0"),
    ("training", "grad_clip", -1, "number > 0", "None"),
    ("training", "group_size", -1, "integer >= 2"),
    ("training", "train_batch_size_per_learner", -1, "integer >= 1"),
    ("training", "train_batch_size_per_learner", None, "integer >= 1"),
    ("training", "minibatch_size", -1, "integer >= 1", "None"),
    ("training", "kl_coeff", -1, "number >= 0"),
    ("training", "weight_decay", -1.0, "number >= 0"),
    ("env_runners", "num_env_runners", -1, "integer >= 0"),
    ("env_runners", "num_env_runners", None, "integer >= 0"),
    ("env_runners", "num_gpus_per_env_runner", -1, "number >= 0"),
    ("env_runners", "rollout_timeout_s", -1, "number > 0"),
    ("learners", "num_learners", -1, "integer >= 0"),
    ("learners", "num_gpus_per_learner", math.nan, "number in [0, 1]"),
    ("evaluation", "evaluation_interval", -1, "integer >= 0", "None"),
    ("evaluation", "evaluation_duration", -1, "integer >= 1"),
    ("evaluation", "evaluation_num_env_runners", -1, "integer >= 0"),
    ("debugging", "seed", -1, "[0, 2**32)", "None"),
    ("fault_tolerance", "env_runner_restore_timeout_s", -1, "number > 0"),
]
INFINITE = [
    ("training", "kl_coeff", math.inf, "number >= 0"),
    ("training", "entropy_coeff", math.inf, "number >= 0"),
    ("training", "clip_param", math.inf, "number > 0"),
    ("training", "engine_ratio_cap", math.inf, "number > 0"),
    ("training", "grad_clip", math.inf, "number > 0", "None"),
    ("training", "lr", math.inf, "number >= 0"),
    ("training", "entropy_z_threshold", math.inf, "number"),
    ("training", "entropy_z_threshold", -math.inf, "number"),
    ("env_runners", "rollout_timeout_s", math.inf, "number > 0"),
    ("env_runners", "env_timeout_s", math.inf, "number > 0", "None"),
]


@pytest.mark.parametrize(
    ("method", "field", "value", "right"),
    [(m, f, v, r) for m, f, v, *r in MINUS_ONE + INFINITE],
    ids=str,
)
def test_minus_one_none_and_infinities_are_refused_where_they_make_no_sense(
    good, method, field, value, right
):
    getattr(good, method)(**{field: value})
    one_problem(good, field, value, *right)
    # The algorithm's own copy: RLlib would take -1 for not given, and begin with the default.
    one_problem(type(good).from_state(good.get_state()), field, value, *right)


def test_minus_one_that_makes_sense_reaches_the_algorithm():
    config = SFPOConfig().training(entropy_z_threshold=-1).debugging(seed=1)
    config.fault_tolerance(max_num_env_runner_restarts=-1)
    state = config.get_state()
    restored = SFPOConfig.from_state(state)
    assert restored.entropy_z_threshold == restored.max_num_env_runner_restarts == -1
    assert "monitor" not in state  # RLlib's own, of which -1 says that there is none


@pytest.mark.parametrize(("window", "reachable", "never"), [(30, 5.385, 5.386), (2, 0.99, 1.0)])
def test_a_threshold_that_no_z_score_reaches_is_refused(good, window, reachable, never):
    good.training(entropy_window=window, entropy_z_threshold=reachable).validate()
    good.training(entropy_z_threshold=never)
    one_problem(good, "entropy_z_threshold", never, "below sqrt(entropy_window - 1)", "never")


@pytest.mark.parametrize("config_class", [GRPOConfig, SFPOConfig])
def test_nothing_is_logged_about_an_api_stack_that_nobody_asked_for(
    make_config, caplog, monkeypatch, config_class
):
    monkeypatch.setattr("ray.util.debug._logged", set())
    config = make_config(config_class)
    with caplog.at_level("WARNING"):
        config.validate()
        config.get_evaluation_config_object().validate()
    assert "api_stack" not in caplog.text
