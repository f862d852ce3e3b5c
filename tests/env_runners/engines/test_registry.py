"""Engines by name or class: what they say of themselves is asked, and none is imported unasked."""

import sys
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("ray")

from own_parts import CountingEngine
from refusals import one_problem, problems_of

from sfpo_rllib.algorithms.grpo.preflight import preflight
from sfpo_rllib.env_runners.engines import ENGINES, engine_class, make_engine
from sfpo_rllib.env_runners.engines.memory import EngineLoad, EngineMemory


class LargeEngine(CountingEngine):
    """Says what it needs."""

    @classmethod
    def resource_problems(cls, gpu_share: float) -> list[str]:
        return [f"rollout_engine={cls.__name__}: must have a GPU"] if gpu_share == 0 else []

    @classmethod
    def lora_problems(cls, lora: Mapping[str, Any]) -> list[str]:
        return [] if lora["r"] == 4 else [f"model_config['lora']['r']={lora['r']}: must be 4"]

    @classmethod
    def memory(cls, load: EngineLoad) -> EngineMemory:
        return EngineMemory(3 * load.weights, 10**9, load.kv_bytes_per_token, load.device)


@pytest.fixture
def own(good: Any) -> Any:
    return good.env_runners(rollout_engine=CountingEngine, engine_kwargs={"first": 5})


def test_the_settings_of_vllm_are_checked_without_importing_it(
    good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # importing it is an error
    good.env_runners(rollout_engine="vllm", engine_kwargs={"max_num_seqs": 0})
    (problem,) = (p for p in good.cheap_problems() if "max_num_seqs" in p)
    assert problem.startswith("engine_kwargs['max_num_seqs']=0: ")


@pytest.mark.parametrize("name", ENGINES)
def test_names_stand_for_classes_and_a_class_for_itself(name: str) -> None:
    assert engine_class(engine_class(name)) is engine_class(name)


@pytest.mark.parametrize("engine", ["vlm", None, dict, object(), ["vllm"]])
def test_what_is_no_engine_is_refused_with_those_there_are(good: Any, engine: Any) -> None:
    good.env_runners(rollout_engine=engine)
    one_problem(good, "rollout_engine", engine, "'vllm', 'transformers'", "RolloutEngine")


@pytest.mark.usefixtures("nothing_heavy")
def test_a_class_of_ones_own_is_an_engine(own: Any) -> None:
    own.validate()
    engine = make_engine(CountingEngine, gpu_share=0.5, model="x", dtype="float32", first=5)
    assert isinstance(engine, CountingEngine)  # given what it has arguments for, and no more


@pytest.mark.parametrize(
    ("settings", "field", "right"),
    [
        ({"first": 5, "lenght": 3}, "engine_kwargs['lenght']=3", "did you mean 'length'?"),
        ({}, "engine_kwargs={}", "must have ['first']"),
        ({"first": 5, "model": "x"}, "engine_kwargs['model']='x'", "model_config['model']"),
        ({"first": 5, "gpu_share": 1}, "engine_kwargs['gpu_share']=1", "num_gpus_per_env_runner"),
    ],
)
def test_settings_that_its_constructor_does_not_have_or_needs_are_refused(
    good: Any, settings: dict[str, Any], field: str, right: str
) -> None:
    good.env_runners(rollout_engine=CountingEngine, engine_kwargs=settings)
    (problem,) = good.cheap_problems()
    assert problem.startswith(f"{field}: ") and right in problem


@pytest.mark.parametrize(
    ("engine", "settings", "right"),
    [
        ("transformers", {"max_batch_size": 0}, "an integer >= 1"),
        ("transformers", {"max_model_len": 64.0}, "an integer >= 1"),
        ("transformers", {"max_batchsize": 8}, "did you mean 'max_batch_size'?"),
        ("transformers", {"dtype": "float32"}, "set model_config['dtype'] instead"),
        ("vllm", {"lora": {}}, "set model_config['lora'] instead"),
        ("vllm", {"kv_cache_memory_bytes": "x"}, "an integer >= 1 (bytes)"),
        ("vllm", {"max_model_len": "x"}, "an integer >= 1 (tokens)"),
        ("vllm", {"max_model_len": -5}, "an integer >= 1 (tokens)"),
        ("vllm", {"gpu_memory_utilization": 1.5}, "a number in (0, 1]"),
    ],
)
def test_our_engines_check_their_settings_too(
    good: Any, engine: str, settings: dict[str, Any], right: str
) -> None:
    (problem,) = good.env_runners(rollout_engine=engine, engine_kwargs=settings).cheap_problems()
    ((key, value),) = settings.items()
    assert problem.startswith(f"engine_kwargs[{key!r}]={value!r}: ") and right in problem


def test_an_adapter_is_refused_where_the_engine_takes_none(own: Any) -> None:
    pytest.importorskip("peft")
    lora = {"r": 8, "target_modules": "all-linear"}
    own.rl_module(model_config={**own.model_config, "lora": lora})
    one_problem(own, "model_config['lora']", lora, "must be None with CountingEngine")


def test_what_a_class_says_of_gpus_adapters_and_memory_is_asked(own: Any) -> None:
    own.env_runners(rollout_engine=LargeEngine)
    one_problem(own, "rollout_engine", _Bare("LargeEngine"), "must have a GPU")
    own.env_runners(num_env_runners=1, num_gpus_per_env_runner=0.25)
    estimate = preflight(own, device_memory_gb=80)
    assert estimate.engine.weights == 3 * 4 * estimate.model.num_parameters
    assert estimate.engine.limit == 80 * 10**9
    assert not [*estimate.problems()]
    small = [*preflight(own, device_memory_gb=1e-6).problems()]
    assert any(p.startswith("engine_kwargs: an engine's weights need ") for p in small)
    pytest.importorskip("peft")
    lora = {"r": 8, "target_modules": "all-linear"}
    own.rl_module(model_config={**own.model_config, "lora": lora})
    assert "model_config['lora']['r']=8: must be 4" in problems_of(own)


class _Bare(str):
    """A text without quotes."""

    def __repr__(self) -> str:
        return str(self)
