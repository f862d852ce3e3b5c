"""How weights arrive otherwise than by the object store, and what may be asked for: no GPU."""

from collections import deque
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from fake_runners import FakeRunners, complete
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from transformers import AutoModelForCausalLM

from sfpo_rllib.env_runners.engines import SamplingSettings
from sfpo_rllib.env_runners.engines.transformers_engine import TransformersEngine
from sfpo_rllib.env_runners.group_env_runner import GroupEnvRunner
from sfpo_rllib.env_runners.rollout import RolloutJob
from sfpo_rllib.env_runners.stream import Fleet
from sfpo_rllib.env_runners.weights import WEIGHT_OFFER, PublishedWeights
from sfpo_rllib.env_runners.weights.settings import WeightSettings

UPDATE_INFO = {"names": ["a", "b"], "dtype_names": ["bfloat16"] * 2, "shapes": [[2], [3]]}


# A runner's end.


class Engine:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.fails = False

    def name_weights(self, version: int) -> None:
        pass

    def receive_weights(self, init_info: Any, update_info: Any) -> None:
        self.told.append((init_info, update_info))
        if self.fails:
            raise RuntimeError("half of it")

    def load_weights(self, weights: Any) -> None:
        self.told.append(sorted(weights))

    def sleep(self) -> None:
        self.told.append("sleep")


@pytest.fixture
def runner(make_config: Any) -> GroupEnvRunner:
    made = GroupEnvRunner(config=make_config())
    made._engine.close()
    made._engine, made.worker_index = Engine(), 2
    return made


def offered(version: int, init_info: Any) -> dict[str, Any]:
    offer = {"init_info": init_info, "update_info": UPDATE_INFO}
    return {WEIGHT_OFFER: offer, WEIGHTS_SEQ_NO: version}


def stale_version(runner: GroupEnvRunner, version: int) -> int | None:
    return runner.sample(job=RolloutJob((), version, (0,), False, 1.0)).stale_version


def test_a_runner_takes_part_in_its_own_place_and_has_the_version_then(runner):
    runner.set_state(offered(3, {1: {"rank_offset": 1}, 2: {"rank_offset": 2}}))
    runner.set_state(offered(4, {}))
    runner.set_state(offered(5, {None: {"packed": False}}))
    inits = [init_info for init_info, _ in runner._engine.told]
    assert inits == [{"rank_offset": 2}, None, {"packed": False}]
    assert runner.weights_version == 5


def test_a_runner_with_half_an_update_samples_nothing_until_whole_weights_came(runner):
    runner.set_state(offered(3, {}))
    runner._engine.fails = True
    with pytest.raises(RuntimeError, match="half of it"):
        runner.set_state(offered(4, {}))
    assert [stale_version(runner, version) for version in (3, 4)] == [-1, -1]
    payload = {"dtype": "float32", "tensors": {}}
    runner.set_state({COMPONENT_RL_MODULE: {DEFAULT_MODULE_ID: payload}, WEIGHTS_SEQ_NO: 4})
    assert runner.weights_version == 4


def test_a_runner_that_sleeps_samples_nothing_until_it_gets_weights(runner):
    runner.set_state(offered(3, {}))
    runner.sleep()
    assert stale_version(runner, 3) == -1
    runner.set_state(offered(4, {}))
    assert runner.weights_version == 4 and runner._engine.told[1] == "sleep"


def test_an_engine_neither_keeps_nor_changes_the_memory_that_weights_come_in(tiny_model):
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    weights = {n: t.clone() + 0.1 for n, t in lm.state_dict().items() if n != "lm_head.weight"}
    given = {name: tensor.clone() for name, tensor in weights.items()}
    engine = TransformersEngine(model=str(tiny_model), dtype="float32", stop_token_ids=[1])
    engine.load_weights(weights)
    before = engine.logprobs([[3, 4, 5, 6]], [1], SamplingSettings())[0]
    for name, tensor in weights.items():
        assert torch.equal(tensor, given[name]), name
        tensor.fill_(7.0)
    assert (engine.logprobs([[3, 4, 5, 6]], [1], SamplingSettings())[0] == before).all()


# The driver's end.


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    runners = FakeRunners([complete, complete])
    monkeypatch.setattr("sfpo_rllib.env_runners.stream.fleet.calls_on", lambda _: runners)
    return Fleet(None, timeout_s=1.0, restore=lambda: None, restore_timeout_s=1.0)


def test_weights_for_all_at_once_go_to_all_and_others_to_who_comes_later(fleet):
    alone = deque(["alone 1", "alone 2"])
    fleet.publish(PublishedWeights(0, "together", alone=alone.popleft))
    fleet.welcome([2])
    sent = [(i, method, state) for i, method, state in fleet._calls.sent]
    assert sent == [
        (1, "set_state", "together"),
        (2, "set_state", "together"),
        (2, "set_state", "alone 1"),
    ]


def test_engines_sleep_before_anybody_goes_on_and_are_sent_the_weights_again(fleet):
    calls = fleet._calls
    fleet.publish(PublishedWeights(0, "weights 0"))
    fleet.sleep()
    assert calls.sent[2:] == [(1, "sleep", None), (2, "sleep", None)]
    assert not calls.all() and calls.loaded == {}
    fleet.publish(PublishedWeights(0, "weights 0"))
    assert calls.sent[4:] == [(1, "set_state", "weights 0"), (2, "set_state", "weights 0")]


# Settings.

SHARED = {"num_gpus_per_env_runner": 0.5, "num_gpus_per_learner": 0.5, "num_env_runners": 1}
OWN = {"num_gpus_per_env_runner": 2, "num_gpus_per_learner": 1, "num_env_runners": 2}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rollout_engine": "transformers"},
        {"weight_transport": "nccl", "tensor_parallel_size": 2, **OWN},
        {"weight_transport": "ipc", "sleep_while_learning": True, **SHARED},
        {"sleep_while_learning": True, "num_gpus_per_learner": 1},  # all in the driver
        {"tensor_parallel_size": 2},  # on a CPU
    ],
)
def test_what_fits_together_is_taken(settings):
    assert list(WeightSettings(**settings).problems()) == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"weight_transport": "carrier pigeon"}, "weight_transport='carrier pigeon': must be one"),
        ({"weight_transport": ["nccl"]}, "weight_transport=['nccl']: must be one of"),
        ({"weight_transport": "nccl", **SHARED}, "weight_transport='nccl': must be 'ipc' where"),
        (
            {"weight_transport": "ipc", "tensor_parallel_size": 2, **OWN},
            "weight_transport='ipc': must be 'nccl' where",
        ),
        (
            {"weight_transport": "nccl", "rollout_engine": "transformers", **OWN},
            "weight_transport='nccl': must be 'object_store', or rollout_engine='vllm'",
        ),
        (
            {"weight_transport": "ipc", **SHARED, "num_env_runners": 0},
            "weight_transport='ipc': must be 'object_store', or num_env_runners >= 1",
        ),
        (
            {"weight_transport": "ipc", **SHARED, "max_staleness": 1},
            "weight_transport='ipc': must be 'object_store', or max_staleness=0",
        ),
        (
            {"weight_transport": "ipc", **SHARED, "lora": True},
            "weight_transport='ipc': must be 'object_store', or model_config['lora']=None",
        ),
        (
            {"weight_transport": "ipc", **SHARED, "evaluation_num_env_runners": 1},
            "weight_transport='ipc': must be 'object_store', or evaluation_num_env_runners=0",
        ),
        (
            {"weight_transport": "nccl", "num_env_runners": 1, "num_gpus_per_learner": 1},
            "weight_transport='nccl': must be 'object_store', or num_gpus_per_env_runner > 0",
        ),
        ({"sleep_while_learning": 1}, "sleep_while_learning=1: must be True or False"),
        (
            {"sleep_while_learning": True, **SHARED, "max_staleness": 2},
            "sleep_while_learning=True: must be False, or max_staleness=0",
        ),
        (
            {"sleep_while_learning": True, "num_env_runners": 1},
            "sleep_while_learning=True: must be False, or num_gpus_per_env_runner > 0",
        ),
        (
            {"sleep_while_learning": True, **SHARED, "rollout_engine": "transformers"},
            "sleep_while_learning=True: must be False, or rollout_engine='vllm'",
        ),
        (
            {"tensor_parallel_size": 2, "num_gpus_per_env_runner": 1, "num_env_runners": 1},
            "engine_kwargs['tensor_parallel_size']=2: must be num_gpus_per_env_runner=1",
        ),
        (OWN, "engine_kwargs['tensor_parallel_size']=1: must be num_gpus_per_env_runner=2"),
        ({"tensor_parallel_size": 0}, "engine_kwargs['tensor_parallel_size']=0: must be an int"),
    ],
)
def test_what_does_not_is_refused_by_name(settings, problem):
    assert any(p.startswith(problem) for p in WeightSettings(**settings).problems())


def test_an_older_vllm_has_another_learners_end(monkeypatch):
    monkeypatch.setattr("sfpo_rllib.env_runners.weights.settings._vllm_version", lambda: (0, 27))
    settings = WeightSettings(weight_transport="ipc", **SHARED)
    (problem,) = settings.problems()
    assert problem == (
        "weight_transport='ipc': must be 'object_store' with vllm 0.27; this takes at least 0.28"
    )


def test_the_engine_is_started_for_what_is_asked_of_it():
    assert WeightSettings().engine_kwargs == {}
    assert WeightSettings(weight_transport="nccl", tensor_parallel_size=2, **OWN).engine_kwargs == {
        "weight_transfer_config": {"backend": "nccl"},
        "distributed_executor_backend": "mp",
    }
    asleep = WeightSettings(sleep_while_learning=True, **SHARED)
    assert asleep.engine_kwargs == {"enable_sleep_mode": True}
