"""Settings: bad values and unknown names are refused before anything starts."""

import json
import math
from typing import Any

import numpy as np
import pytest
from ray import tune
from refusals import one_problem, problems_of

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.config_files.strict_yaml import dump
from sfpo_rllib.core import LOSSES
from sfpo_rllib.run_loop.identity import plain_settings

pytestmark = pytest.mark.usefixtures("nothing_heavy")


@pytest.mark.parametrize("config_class", [SFPOConfig, GRPOConfig])
def test_good_settings_pass(make_config, config_class):
    make_config(config_class).validate()


# Values.

TRAINING = [
    ("group_size", 1, "integer >= 2"),
    ("group_size", 2.0, "integer >= 2"),
    ("group_size", "4", "integer >= 2"),
    ("group_size", None, "integer >= 2"),
    ("train_batch_size_per_learner", 18, "multiple of group_size=4", "e.g. 16"),
    ("train_batch_size_per_learner", 2, "multiple of group_size=4", "e.g. 4"),
    ("train_batch_size_per_learner", 0, "integer >= 1"),
    ("minibatch_size", 5, "divide train_batch_size_per_learner=16"),
    ("minibatch_size", 32, "divide train_batch_size_per_learner=16"),
    ("minibatch_size", 0, "integer >= 1"),
    ("minibatches_per_pass", 3, "divide train_batch_size_per_learner=16"),
    ("minibatches_per_pass", 0, "integer >= 1"),
    ("num_epochs", 2, "must be 1", "fast_steps"),
    ("num_epochs", 0, "must be 1"),
    ("fast_steps", 0, "integer >= 1"),
    ("fast_steps", 2.5, "integer >= 1"),
    ("reposition_alpha", -0.01, "number in [0, 1]"),
    ("reposition_alpha", 1.01, "number in [0, 1]"),
    ("reposition_alpha", math.nan, "number in [0, 1]"),
    ("reposition_alpha", "0.8", "number in [0, 1]"),
    ("entropy_z_threshold", math.nan, "number"),
    ("entropy_z_threshold", "1", "number"),
    ("preset", "papr", "['official_repo', 'paper']"),
    ("loss_aggregation", "mean", "'token'", "'sequence'", "'constant'"),
    ("equal_reward_groups", "omit", "'keep'", "'drop'", "'resample'"),
    ("loss", "drgrpo", "'dapo'", "core.PolicyLoss", "did you mean 'dr_grpo'?"),
    ("advantages", "gae", "'group'", "'rloo'", "function"),
    ("advantages", ["group"], "'group'", "function"),
    ("kl_coeff", -0.1, "number >= 0"),
    ("kl_coeff", None, "number >= 0"),
    ("kl_estimator", "k4", "'k1'", "'k3'"),
    ("entropy_coeff", math.nan, "number >= 0"),
    ("engine_correction", "tis", "'token_truncate'", "'sequence_mask'", "None"),
    ("engine_ratio_floor", 2.0, "< engine_ratio_cap=2.0"),
    ("engine_ratio_floor", None, "number >= 0"),
    ("max_skipped_steps", -1, "integer >= 0"),
    ("max_engine_logp_diff", 0.0, "number > 0", "None"),
    ("max_engine_logp_diff", math.nan, "number > 0", "None"),
    ("max_resampling_rounds", -1, "integer >= 0"),
    ("truncated_replies", "drop", "'train'", "'mask'"),
    ("truncated_replies", True, "'train'", "'mask'"),
    ("clip_param", 0.0, "number > 0", "None"),
    ("clip_param", math.nan, "number > 0"),
    ("clip_param_high", -0.2, "number > 0", "None"),
    ("clip_param_dual", 1.2, "number > 1.2", "None"),
    ("clip_param_dual", "3", "number > 1.2"),
    ("engine_ratio_cap", 0, "number > 0", "engine_correction=None"),
    ("engine_ratio_cap", None, "number > 0", "engine_correction=None"),
    ("grad_clip", math.nan, "number > 0", "None"),
    ("max_tokens_per_micro_batch", 0, "integer >= 1"),
    ("snapshot_device", "cuda", "None or 'cpu'"),
    ("weight_decay", -1.0, "number >= 0"),
    ("adam_betas", (0.9, 1.0), "two numbers in [0, 1)"),
    ("optimizer", "adam", "'adamw'", "'paged_adamw_8bit'", "did you mean"),
    ("optimizer_kwargs", {"eps": -1.0}, "epsilon"),
    ("optimizer_kwargs", 3, "must be a dict"),
    ("lr", -1e-6, "number >= 0"),
    ("lr", 10**400, "number >= 0"),
    ("lr_schedule", "cosin", "'constant'", "'linear'", "'cosine'"),
    ("lr_warmup_batches", -1, "integer >= 0"),
    ("lr_min_ratio", 2, "number in [0, 1]"),
]


@pytest.mark.parametrize(("field", "value", "right"), [(f, v, r) for f, v, *r in TRAINING])
def test_training_settings_out_of_range_are_refused(good, field, value, right):
    one_problem(good.training(**{field: value}), field, value, *right)


def test_numpys_numbers_are_settings_and_equal_to_pythons(good):
    own = {"group_size": 4, "minibatch_size": 8, "kl_coeff": 0.5, "entropy_warmup": 2, "lr": 0.25}
    good.training(**own).env_runners(sampling={"max_tokens": 4}).validate()
    expected = plain_settings(good)
    numpys = {k: (np.int64 if isinstance(v, int) else np.float32)(v) for k, v in own.items()}
    good.training(**numpys).env_runners(sampling={"max_tokens": np.int32(4)}).validate()
    assert json.loads(json.dumps(plain_settings(good))) == expected
    assert "max_tokens: 4" in dump({"sampling": expected["sampling"]})


def test_numpys_truth_values_are_no_numbers(good):
    one_problem(good.training(group_size=np.True_), "group_size", np.True_, "integer >= 2")


def test_packing_with_a_kernel_that_mixes_sequences_is_refused(good):
    model = good.model_config["model"]
    good.rl_module(model_config={"model": model, "packing": True}).validate()
    good.rl_module(model_config={"model": model, "packing": True, "attn_implementation": "eager"})
    one_problem(good, "model_config['attn_implementation']", "eager", "'flash_attention_2'")


OF_THE_LOSSES = {
    "grpo": ("token", "group", 0.2, 0.2),
    "dr_grpo": ("constant", "group_mean", 0.2, 0.2),
    "dapo": ("token", "group", 0.2, 0.28),
    "gspo": ("sequence", "group", 3e-4, 4e-4),
    "cispo": ("token", "group", 1.0, 4.0),
    "reinforce": ("constant", "rloo", 0.2, 0.2),
}


@pytest.mark.parametrize("name", OF_THE_LOSSES)
def test_a_loss_sets_its_defaults_and_explicit_settings_win_in_any_order(good, name):
    def settings(config: GRPOConfig) -> tuple[Any, ...]:
        loss = config.policy_loss
        return loss.aggregation, loss.advantages, loss.clip.low, loss.clip.high

    good.training(loss=name).validate()
    assert settings(good) == OF_THE_LOSSES[name]
    explicit = {
        "loss_aggregation": "sequence",
        "advantages": "batch",
        "clip_param": 0.1,
        "clip_param_high": 0.3,
    }
    other = GRPOConfig().training(**explicit).training(loss=name)
    assert settings(other) == settings(good.training(**explicit))
    assert settings(other) == ("sequence", "batch", 0.1, 0.3)


def test_the_default_is_grpo_over_tokens_by_the_groups_deviation():
    assert GRPOConfig().policy_loss == LOSSES["grpo"]


def test_nothing_is_held_or_kept_for_a_kl_or_an_entropy_bonus_that_is_off():
    off = GRPOConfig()._model_config_auto_includes
    assert not off["holds_reference"]
    on = GRPOConfig().training(kl_coeff=0.1, entropy_coeff=0.1)._model_config_auto_includes
    assert on["holds_reference"]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_decay_without_an_end_is_refused(good, kind):
    good.training(lr_schedule=kind, lr_warmup_batches=3)
    one_problem(good, "lr_total_batches", None, "integer", f"lr_schedule={kind!r}")
    good.training(lr_total_batches=3)
    one_problem(good, "lr_total_batches", 3, "above lr_warmup_batches=3")
    good.training(lr_total_batches=4).validate()


@pytest.mark.parametrize(
    "batches",
    [
        {"lr_schedule": "linear", "lr_total_batches": 9},
        {"lr_warmup_batches": 2},
        {"lr_warmup_steps": 2},
    ],
    ids=str,
)
def test_a_schedule_of_timesteps_and_one_of_batches_together_are_refused(good, batches):
    lr = [[0, 1e-6], [1000, 1e-7]]
    good.training(lr=lr).validate()
    one_problem(good.training(**batches), "lr", lr, "must be a number", "timesteps")


@pytest.mark.parametrize("lr", [tune.loguniform(1e-7, 1e-5), tune.grid_search([1e-6, 1e-5])])
def test_the_learning_rate_may_be_searched_over_beside_a_schedule(good, lr):
    good.training(lr=lr, lr_schedule="cosine", lr_total_batches=10, optimizer=tune.choice(["sgd"]))
    trial = SFPOConfig().update_from_dict({**good.to_dict(), "lr": 1e-6, "optimizer": "sgd"})
    trial.validate()
    assert trial.make_lr_schedule().lr == 1e-6


@pytest.mark.parametrize("window", [1, 0, 30.0, None])
def test_an_entropy_window_out_of_range_is_refused_where_there_is_a_trigger(good, window):
    good.training(entropy_window=window)
    good.validate()  # entropy_z_threshold=None: no trigger
    good.training(entropy_z_threshold=1.0)
    one_problem(good, "entropy_window", window, "integer >= 2")


ENV_RUNNERS = [
    ("rollout_engine", "vlm", "'vllm'", "'transformers'"),
    ("prompt_format", "chatml", "'auto'", "'raw'", "'chat'"),
    ("rollout_timeout_s", 0, "number > 0"),
    ("rollout_timeout_s", None, "number > 0"),
    ("max_staleness", -1, "integer >= 0"),
    ("max_staleness", 1.0, "integer >= 0"),
    ("max_staleness", True, "integer >= 0"),
    ("max_staleness", None, "integer >= 0"),
    ("max_staleness", 1, "num_env_runners >= 1"),  # there are none
    ("groups_per_job", 0, "integer >= 1", "None"),
    ("groups_per_job", 2.5, "integer >= 1", "None"),
    ("env_timeout_s", 0, "number > 0", "None"),
    ("env_timeout_s", "10", "number > 0", "None"),
    ("env_timeout_s", True, "number > 0", "None"),
    ("num_env_threads", -1, "integer >= 0"),
    ("num_env_threads", 2.0, "integer >= 0"),
    ("num_env_threads", "4", "integer >= 0"),
    ("num_env_threads", True, "integer >= 0"),
    ("num_env_threads", None, "integer >= 0"),
    ("weight_sync", "in-flight", "'between_batches'", "'in_flight'"),
    ("weight_sync", "in_flight", "'between_batches' with max_staleness=0"),
]


@pytest.mark.parametrize(("field", "value", "right"), [(f, v, r) for f, v, *r in ENV_RUNNERS])
def test_rollout_settings_out_of_range_are_refused(good, field, value, right):
    one_problem(good.env_runners(**{field: value}), field, value, *right)


MODEL_CONFIG = [
    ("dtype", "float16", "'bfloat16'", "'float32'"),
    ("dtyp", "float32", "did you mean 'dtype'?"),
    ("model", "/no/such/folder", "transformers folder", "hub id"),
    ("model", None, "transformers folder", "hub id"),
    ("temperature", 2, "must be left out", "set sampling['temperature']"),
    ("holds_reference", True, "must be left out", "set kl_coeff"),
    ("attn_implementation", "foo", "'eager'", "'sdpa'"),
    ("attn_implementation", "flash_attention", "did you mean 'flash_attention_"),
]


@pytest.mark.parametrize(("key", "value", "right"), [(k, v, r) for k, v, *r in MODEL_CONFIG])
def test_model_settings_out_of_range_are_refused(good, tiny_model, key, value, right):
    good.rl_module(model_config={"model": str(tiny_model), key: value})
    one_problem(good, f"model_config[{key!r}]", value, *right)


def test_what_the_algorithm_adds_to_the_model_may_be_given_back(good):
    good.training(kl_coeff=0.1)
    good.rl_module(model_config={**good.model_config}).validate()


EVALUATION = [
    ("evaluation_duration", 0, "integer >= 1"),
    ("evaluation_duration_unit", "timesteps", "'episodes'"),
]


@pytest.mark.parametrize(("field", "value", "right"), [(f, v, r) for f, v, *r in EVALUATION])
def test_evaluation_settings_that_do_not_fit_are_refused(good, field, value, right):
    one_problem(good.evaluation(**{field: value}), field, value, *right)


def test_several_problems_are_listed_at_once(good):
    good.training(
        group_size=1, reposition_alpha=2, fast_steps=0, entropy_window=1, entropy_z_threshold="z"
    )
    good.env_runners(rollout_engine="vlm", sampling={"temperature": -1})
    fields = [problem.split("=")[0] for problem in problems_of(good)]
    assert sorted(fields) == [
        "entropy_window",
        "entropy_z_threshold",
        "fast_steps",
        "group_size",
        "reposition_alpha",
        "rollout_engine",
        "sampling['temperature']",
    ]


# Names.


@pytest.mark.parametrize("method", ["training", "env_runners"])
def test_unknown_keywords_are_refused_at_once(good, method):
    with pytest.raises(TypeError, match="group_siz"):
        getattr(good, method)(group_siz=4)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("fast_step", "fast_steps"),
        ("group_siz", "group_size"),
        ("reposition_alfa", "reposition_alpha"),
        ("rollout_engin", "rollout_engine"),
        ("trian_batch_size_per_learner", "train_batch_size_per_learner"),
    ],
)
def test_unknown_keys_of_a_dict_are_refused_with_the_nearest_name(good, key, nearest):
    config = SFPOConfig().update_from_dict({**good.to_dict(), key: 3})
    one_problem(config, key, 3, "no such setting", f"did you mean {nearest!r}?")


def test_an_unknown_key_like_nothing_else_is_refused_too(good):
    config = SFPOConfig().update_from_dict({**good.to_dict(), "zzqxj": 3})
    assert problems_of(config) == ["zzqxj=3: no such setting"]
    of_tune = {"__stdout_file__": None, "__trial_info__": "a trial"}
    config = SFPOConfig().update_from_dict({**good.to_dict(), "_lr": 3, **of_tune})
    assert problems_of(config) == ["_lr=3: no such setting; did you mean 'lr'?"]


def test_a_whole_config_goes_through_a_dict_and_stays_good(good):
    SFPOConfig().update_from_dict(good.to_dict()).validate()
    good.copy(copy_frozen=False).validate()


@pytest.mark.parametrize(
    "value", [tune.grid_search([0.5, 0.8]), tune.uniform(0.1, 0.9), tune.choice([0.5, 1.0])]
)
def test_training_takes_search_objects(good, value):
    assert good.training(reposition_alpha=value).reposition_alpha is value


# Together.


def test_one_error_lists_cheap_and_costly_problems_together(good):
    good.training(clip_param=-1.0).rl_module(model_config={"model": "no/such/folder"})
    good.environment("no_such_module:no/Such-v0")
    found = "\n".join(problems_of(good))
    for field in ("clip_param=-1.0", "model_config['model']='no/such/folder'", "env='no_such"):
        assert field in found
