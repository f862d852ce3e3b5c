"""One sync of the weights from a learner to two engines: what is copied, and how long it takes.

All processes are on one machine. What the processes hold of their own is looked at every few
milliseconds, so that the peaks are lower bounds; what the object store is given is counted by Ray.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from sfpo_rllib import GRPOConfig
from sfpo_rllib.env_runners.weights import ObjectStore
from sfpo_rllib.rl_modules.char_llama import build_char_llama

NUM_RUNNERS = 2
EVERY_S = 0.003


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Bytes in the object store, and the most that each process held besides, a sync.

    Args:
        folder: For a model.
        smoke: Whether to be quick about it.
    """
    hidden, layers, repetitions = (1024, 2, 3) if smoke else (2048, 5, 5)
    build_char_llama(
        folder / "model", alphabet="0123456789+=", hidden_size=hidden, num_layers=layers
    )
    own_ray = not ray.is_initialized()
    if own_ray:
        ray.init(num_cpus=NUM_RUNNERS + 2, include_dashboard=False, log_to_driver=False)
    algo = _config(folder / "model").build_algo()
    try:
        publisher = ObjectStore(has_remote_runners=True)
        size = sum(2 * tensor.numel() for tensor in algo.get_module_weights().values())
        pids = {"driver": os.getpid(), **_pids(algo)}
        syncs = []
        for _ in range(1 + repetitions):
            stored = _bytes_stored()
            start = time.perf_counter()
            with _peaks(pids) as peaks:
                weights = publisher.publish(algo.learner_group)
                published = time.perf_counter()
                algo.env_runner_group.foreach_env_runner(
                    "set_state", kwargs={"state": weights.state}
                )
            syncs.append(
                {
                    "publish_s": published - start,
                    "load_s": time.perf_counter() - published,
                    "stored_copies": (_bytes_stored() - stored) / size,
                    **{f"{name}_copies": peak / size for name, peak in peaks.items()},
                }
            )
            del weights
    finally:
        algo.stop()
        if own_ray:
            ray.shutdown()
    measured = syncs[1:]  # the first one makes room that is kept
    names = measured[0]
    return {
        "bytes": size,
        "num_runners": NUM_RUNNERS,
        "median": {name: median(sync[name] for sync in measured) for name in names},
        "syncs": measured,
    }


def _config(model: Path) -> GRPOConfig:
    """A learner and two runners, each a process; float32 masters and bfloat16 engines."""
    return (
        GRPOConfig()
        .environment("sfpo_envs:sfpo/Arithmetic-v0")
        .rl_module(model_config={"model": str(model), "dtype": "bfloat16"})
        .env_runners(
            num_env_runners=NUM_RUNNERS, rollout_engine="transformers", sampling={"max_tokens": 4}
        )
        .training(train_batch_size_per_learner=4, group_size=2)
        .learners(num_learners=1)
    )


def _pids(algo: Any) -> dict[str, int]:
    (learner,) = (r.get() for r in algo.learner_group.foreach_learner(lambda _: os.getpid()))
    runners = algo.env_runner_group.foreach_env_runner(lambda _: os.getpid())
    return {"learner": learner, **{f"runner_{i}": pid for i, pid in enumerate(runners)}}


def _bytes_stored() -> int:
    """Bytes of all objects that were ever put into the object store."""
    gcs = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(gcs)).store_stats
    return int(stats.cumulative_created_bytes)


@contextmanager
def _peaks(pids: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """The most bytes that processes hold in the body beyond what they held before it."""
    before = {name: _own_bytes(pid) for name, pid in pids.items()}
    peaks = dict.fromkeys(pids, 0)
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(EVERY_S):
            for name, pid in pids.items():
                peaks[name] = max(peaks[name], _own_bytes(pid) - before[name])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        is_over.set()
        thread.join()


def _own_bytes(pid: int) -> int:
    """Memory that a process does not share: pages of the object store are not in it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (row for row in status.splitlines() if row.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])
