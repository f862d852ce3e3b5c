"""Runs by worker processes, each kept in a file as it ends, so that a benchmark can go on."""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import ray
import torch

from benchmarks.common import write_json
from benchmarks.rllib_algorithms.runs import Curve, Run, train


def run_path(folder: Path, run: Run) -> Path:
    """Where the run is kept."""
    return folder / f"{run.name}.json"


def load_finished(folder: Path, run: Run) -> Curve | None:
    """The curve of the run if it has ended with these settings, else None."""
    try:
        stored = json.loads(run_path(folder, run).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if not isinstance(stored, dict) or stored.get("run") != asdict(run):
        return None
    curve: Curve = stored.get("curve", {})
    whole = {len(column) for column in curve.values()} == {run.settings.iterations}
    return curve if whole else None


def run_all(folder: Path, runs: Sequence[Run], executor: Executor) -> dict[Run, Curve]:
    """Trains those of the runs that have not ended, and returns all.

    Args:
        folder: Of the run files.
        runs: Which.
        executor: Trains them. Each writes its own file.
    """
    curves = {run: load_finished(folder, run) for run in runs}
    pending = {
        executor.submit(train_and_keep, folder, run): run
        for run, curve in curves.items()
        if curve is None
    }
    print(f"{len(curves)} runs, {len(curves) - len(pending)} of them kept from before", flush=True)
    for count, future in enumerate(as_completed(pending), start=1):
        run = pending[future]
        curve = curves[run] = future.result()
        print(
            f"  {count}/{len(pending)} {run.name}: return {curve['episode_return'][-1]:.0f}, "
            f"{curve['wall_s'][-1]:.0f} s",
            flush=True,
        )
    return {run: curve for run, curve in curves.items() if curve is not None}


def train_and_keep(folder: Path, run: Run) -> Curve:
    """Trains and writes the run's file, whole or not at all."""
    curve = train(run)
    write_json(run_path(folder, run), {"run": asdict(run), "curve": curve})
    return curve


@contextmanager
def workers(count: int) -> Iterator[Executor]:
    """So many processes with a ray of their own and one thread; on an error, they start no more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
