"""What is refused of an adapter's settings, before anything starts."""

import importlib.util
from typing import Any

import pytest

pytest.importorskip("peft")

from refusals import one_problem, problems_of

from sfpo_rllib import SFPOConfig

pytestmark = pytest.mark.usefixtures("nothing_heavy")


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
    ("alpha_pattern", 3, "numbers > 0"),
    ("alpha_pattern", {"q_proj": -1}, "numbers > 0"),
    ("use_rslora", "no", "True or False"),
    ("use_dora", "x", "True or False"),
    ("fan_in_fan_out", "maybe", "True or False"),
    ("target_modules", ["q_proj", 3], "a text or a list of texts"),
]


@pytest.mark.parametrize(("key", "value", "right"), [(k, v, r) for k, v, *r in LORA])
def test_settings_of_an_adapter_that_are_unknown_or_out_of_range_are_refused(
    good, key, value, right
):
    one_problem(with_lora(good, {key: value}), f"model_config['lora'][{key!r}]", value, *right)


@pytest.mark.parametrize("lora", [True, 16, ["q_proj"], "all-linear"])
def test_an_adapter_that_is_no_dict_is_refused(good, lora):
    one_problem(with_lora(good, lora), "model_config['lora']", lora, "None or a dict", "'r': 16")


@pytest.mark.parametrize("targets", [["nonsense"], ["q_proj", "lm_head"], ["embed_tokens"]])
def test_an_adapter_to_layers_that_are_not_there_or_may_have_none_is_refused(good, targets):
    (problem,) = problems_of(with_lora(good, {"target_modules": targets}))
    assert problem.startswith("model_config['lora']")
    assert targets[-1] in problem


@pytest.mark.parametrize("lora", [{"target_modules": "("}, {"rank_pattern": {"(": 3}}], ids=str)
def test_patterns_that_are_none_are_refused(good, lora):
    one_problem(with_lora(good, lora), "model_config['lora']", lora, "peft refuses it")


@pytest.mark.parametrize("setting", ["rank_pattern", "alpha_pattern"])
def test_patterns_must_match_a_layer_with_an_adapter(good, setting):
    fits = {"layers.0.self_attn.q_proj": 4, "v_p.*": 3}
    with_lora(good, {setting: fits}).validate()
    field = f"model_config['lora'][{setting!r}]['k_proj']"
    with_lora(good, {setting: {**fits, "k_proj": 2}})
    one_problem(good, field, 2, "['q_proj', 'v_proj']", "matches none")


def test_an_adapter_without_peft_is_refused_with_its_extra(good, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "peft" else found(n, *a)
    )
    lora = {"r": 8}
    one_problem(
        with_lora(good, lora), "model_config['lora']", lora, "not installed", "'peft>=0.21,<0.22'"
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
    with_lora(good, {key: value, "target_modules": "all-linear"}).validate()
    problems = problems_of(good.env_runners(rollout_engine="vllm"))
    (problem,) = (p for p in problems if "lora" in p)
    assert problem.startswith(f"model_config['lora'][{key!r}]={value!r}: must be ")
    assert right in problem
