"""Peak memory of an update, in bytes of tensors."""

import json
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.overhead.workload import Workload
from sfpo_rllib.core import UpdateRule


def peak_bytes(workload: Workload, rule: UpdateRule) -> int:
    """Most bytes that tensors take at once during an update, weights and moments included.

    On CUDA as its allocator counts them; on a CPU, what outlives an update and the most that is
    allocated on top of it.
    """
    if workload.device.type == "cuda":
        workload.synchronize()
        torch.cuda.reset_peak_memory_stats(workload.device)
        workload.update(rule)
        return torch.cuda.max_memory_allocated(workload.device)
    return workload.resident_bytes + cpu_peak_bytes(lambda: workload.update(rule))


def cpu_peak_bytes(body: Callable[[], object]) -> int:
    """Most bytes that torch's CPU allocator holds at once of what it allocates in `body`.

    The profiler sees every allocation, kernels' own workspaces included. What is freed in `body`
    must have been allocated in it.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        body()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    memory = sorted(
        (event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]
    )
    return max(accumulate((event["args"]["Bytes"] for event in memory), initial=0))
