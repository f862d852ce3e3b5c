"""The slow-fast update where parameters are sharded, and its copy on another device."""

import math
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from sfpo_rllib.core import slow_fast_update
from sfpo_rllib.core.slow_fast import Reposition


@pytest.fixture
def gloo_mesh() -> Iterator[object]:
    """A mesh of this process alone."""
    dist = pytest.importorskip("torch.distributed")
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("torch.distributed with gloo is not available")
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("snapshot_device", [None, "cpu"])
def test_dtensors_may_stand_beside_plain_tensors(gloo_mesh, snapshot_device):
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    sharded = distribute_tensor(torch.zeros(4, 2), gloo_mesh, [Shard(0)])
    replicated = distribute_tensor(torch.zeros(3), gloo_mesh, [Replicate()])
    params = [sharded, torch.zeros(5), replicated]
    measured: list[Reposition] = []
    slow_fast_update(
        params,
        lambda: [param.detach().add_(1.0) for param in params],
        fast_steps=2,
        alpha=0.5,
        on_reposition=measured.append,
        snapshot_device=snapshot_device,
    )
    for param in params:
        full = param.full_tensor() if isinstance(param, DTensor) else param
        assert torch.equal(full, torch.full(full.shape, 0.5 * 2 + 1))
    assert measured[0].displacement_norm == pytest.approx(math.sqrt(8 + 5 + 3) * 2)


_TWO_PROCESSES = """
import math, os, sys
sys.modules["ray"] = None  # the core does without, and starts in a third of the time
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from sfpo_rllib.core import slow_fast_update

store, rank = sys.argv[1], int(os.fork() == 0)
dist.init_process_group("gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))

def run_pass():
    for param in params:
        param.add_(1.0)

for snapshot_device in (None, "cpu"):
    params = [
        distribute_tensor(torch.zeros(5, 2), mesh, [Shard(0)]),  # 3 rows here, 2 there
        distribute_tensor(torch.zeros(3), mesh, [Replicate()]),
    ]
    measured = []
    slow_fast_update(
        params,
        run_pass,
        fast_steps=2,
        alpha=0.5,
        on_reposition=measured.append,
        snapshot_device=snapshot_device,
    )
    for param in params:
        full = param.full_tensor()
        assert torch.equal(full, torch.full(full.shape, 2.0)), full
    assert abs(measured[0].displacement_norm - math.sqrt(10 + 3) * 2) < 1e-5, measured
dist.destroy_process_group()
if rank == 0:
    assert os.wait()[1] == 0
"""


def test_the_norms_of_sharded_parameters_are_those_of_the_whole(tmp_path, gloo_mesh):
    del gloo_mesh  # only for what it skips
    command = [sys.executable, "-c", _TWO_PROCESSES, tmp_path / "store"]
    assert subprocess.run(command, timeout=120).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_copy_can_be_held_in_host_memory():
    params = [torch.zeros(1 << 22, device="cuda")]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()

    def run_pass() -> None:
        params[0].add_(1.0)
        assert torch.cuda.memory_allocated() == before

    slow_fast_update(params, run_pass, fast_steps=2, alpha=0.5, snapshot_device="cpu")
    assert torch.equal(params[0], torch.full_like(params[0], 2.0))
