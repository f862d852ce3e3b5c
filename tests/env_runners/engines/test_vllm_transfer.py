"""vLLM's own weight transfer, by a form of it that needs no GPU; and an engine in two processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

import ray
from transformers import AutoModelForCausalLM
from vllm_probes import TOLERANCE, plain_logprobs
from vllm_transfer import NAME, TransferHost

from sfpo_rllib.rl_modules.weights import pack_weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_installed")]

RNG = np.random.default_rng(0)
TOKEN_IDS = [RNG.integers(3, 15, length).tolist() for length in (9, 20, 7)]
SEQUENCES = TOKEN_IDS, [3, 12, 1]


@pytest.fixture
def start(ray_cluster: None, vllm_model: Path) -> Iterator[Callable[..., Any]]:
    hosts = []

    def start(**engine_kwargs: Any) -> Any:
        # Left to itself vLLM wants a NUMA node for each process of an engine.
        environment = {"env_vars": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}}
        host = TransferHost.options(num_cpus=1, runtime_env=environment).remote()
        hosts.append(host)
        ray.get(host.start.remote(str(vllm_model), **engine_kwargs))
        return host

    yield start
    for host in hosts:
        ray.get(host.close.remote())
        ray.kill(host)


def other_model(folder: Path, seed: int) -> Any:
    """The model with other weights."""
    torch.manual_seed(seed)
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for param in lm.parameters():
            param += 0.1 * torch.randn_like(param)
    return lm


def unique(lm: Any) -> dict[str, torch.Tensor]:
    return {name: t for name, t in lm.state_dict().items() if name != "lm_head.weight"}  # tied


def differs(host: Any, lm: Any) -> float:
    """Mean |difference| of the engine's log-probs from transformers'."""
    actual = ray.get(host.logprobs.remote(*SEQUENCES))
    assert not isinstance(actual, str), actual
    expected = plain_logprobs(lm, SEQUENCES, 1.0)
    return float(np.abs(np.concatenate(actual) - np.concatenate(expected)).mean())


def test_an_update_through_vllms_phases_is_whole_or_the_engine_is_of_no_use(
    start: Any, vllm_model: Path, tmp_path: Path
) -> None:
    host = start(weight_transfer_config={"backend": NAME})
    one, other = other_model(vllm_model, 1), other_model(vllm_model, 2)
    info = {"names": list(unique(one))}
    ray.get(host.send.remote(str(tmp_path), unique(one)))
    assert ray.get(host.receive.remote({"folder": str(tmp_path)}, info)) is None
    assert differs(host, one) < TOLERANCE
    ray.get(host.send.remote(str(tmp_path), unique(other)))
    failed = ray.get(host.receive.remote(None, {**info, "breaks_off": True}))
    assert "the sender is gone" in failed
    assert "no whole weights" in ray.get(host.logprobs.remote(*SEQUENCES))
    assert ray.get(host.receive.remote(None, info)) is None
    assert differs(host, other) < TOLERANCE
    # The way by the object store stays open: a runner that comes later takes it.
    ray.get(host.load.remote(pack_weights(unique(one), torch.float32)))
    assert differs(host, one) < TOLERANCE


def test_an_engine_in_two_processes_takes_weights_and_gives_their_logprobs(
    start: Any, vllm_model: Path
) -> None:
    host = start(tensor_parallel_size=2, distributed_executor_backend="mp")
    assert ray.get(host.world_size.remote()) == 2
    for seed in (1, 2):
        lm = other_model(vllm_model, seed)
        ray.get(host.load.remote(pack_weights(unique(lm), torch.float32)))
        assert differs(host, lm) < TOLERANCE
