"""vLLM's end of a transport of weights, by what is called of it."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")


from sfpo_rllib.env_runners.engines.vllm_engine import VLLMEngine

UPDATE_INFO = {"names": ["a", "b"], "dtype_names": ["bfloat16"] * 2, "shapes": [[2], [3]]}


class LLM:
    """Notes the phases; the one named `fails` raises."""

    def __init__(self) -> None:
        self.phases: list[Any] = []
        self.fails = ""

    def __getattr__(self, name: str) -> Any:
        def phase(*args: Any, **kwargs: Any) -> bool:
            self.phases.append((name, *args, *kwargs.values()))
            if name == self.fails:
                raise RuntimeError(name)
            return True

        return phase


@pytest.fixture
def vllm() -> VLLMEngine:
    engine = object.__new__(VLLMEngine)
    engine._llm, engine._adapter = LLM(), None
    engine._is_asleep = engine._has_half_an_update = engine._has_met_learners = False
    engine._load_model = lambda weights: engine._llm.load_model()
    return engine


def names(engine: VLLMEngine) -> list[str]:
    phases, engine._llm.phases = engine._llm.phases, []
    return [phase[0] for phase in phases]


UPDATE = ["start_weight_update", "update_weights", "finish_weight_update", "reset_prefix_cache"]


def test_an_update_has_its_phases_in_order_and_a_meeting_where_there_is_one(vllm):
    vllm.receive_weights({"rank_offset": 1}, UPDATE_INFO)
    assert vllm._llm.phases[0] == (
        "init_weight_transfer_engine",
        {"init_info": {"rank_offset": 1}},
    )
    assert vllm._llm.phases[2] == ("update_weights", {"update_info": UPDATE_INFO})
    assert names(vllm) == ["init_weight_transfer_engine", *UPDATE]
    vllm.receive_weights(None, UPDATE_INFO)
    assert names(vllm) == UPDATE
    vllm.receive_weights({"rank_offset": 1}, UPDATE_INFO)  # others are left first
    assert names(vllm) == [
        "shutdown_weight_transfer_engine",
        "init_weight_transfer_engine",
        *UPDATE,
    ]


@pytest.mark.parametrize("phase", UPDATE)
def test_an_engine_with_half_an_update_refuses_requests_until_a_whole_one(vllm, phase):
    vllm._llm.fails = phase
    with pytest.raises(RuntimeError, match=phase):
        vllm.receive_weights(None, UPDATE_INFO)
    with pytest.raises(RuntimeError, match="no whole weights"):
        vllm._add("1", [1], None, 0)
    vllm._llm.fails = ""
    vllm.receive_weights(None, UPDATE_INFO)
    with pytest.raises(AttributeError):  # no refusal: it goes on to make a request
        vllm._add("1", [1], None, 0)


@pytest.mark.parametrize("by_offer", [False, True])
def test_weights_wake_an_engine_before_they_come_and_its_cache_after(vllm, by_offer):
    vllm.sleep()
    vllm.sleep()
    assert vllm._llm.phases == [("sleep", 2)]
    with pytest.raises(RuntimeError, match="no whole weights"):
        vllm._add("1", [1], None, 0)
    vllm._llm.phases = []
    if by_offer:
        vllm.receive_weights(None, UPDATE_INFO)
        loading = UPDATE[:-1]
    else:
        vllm.load_weights({})
        loading = ["load_model"]
    wakes = [phase for phase in vllm._llm.phases if phase[0] == "wake_up"]
    assert wakes == [("wake_up", ["weights"]), ("wake_up", ["kv_cache"])]
    assert names(vllm) == ["wake_up", *loading, "wake_up", "reset_prefix_cache"]
    vllm.load_weights({})
    assert names(vllm) == ["load_model", "reset_prefix_cache"]


def test_an_engine_keeps_the_weights_that_an_adapter_is_added_to(vllm):
    vllm._adapter = SimpleNamespace(load=lambda engine, weights: vllm._llm.load_adapter())
    vllm._engine = None
    vllm.sleep()
    vllm.load_weights({})
    assert vllm._llm.phases[0] == ("sleep", 1)
    assert "load_adapter" in names(vllm)
