"""Runs in worker processes, each kept in a file as it ends, so that a benchmark can go on."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.common import write_json

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """A run to be made.

    Attributes:
        name: Of its file.
        settings: What makes it, as JSON: equal settings give equal results.
        function: Makes it; returns what to keep beside the settings. Must pickle.
    """

    name: str
    settings: Mapping[str, Any]
    function: Callable[[], Mapping[str, Any]]


def run_all(jobs: Sequence[Job], folder: Path, executor: Executor, stage: str) -> list[Result]:
    """Makes those of the runs that are not kept in `folder`, and returns all, in order.

    Args:
        jobs: The runs.
        folder: A JSON file a run.
        executor: Makes them; each writes its own file.
        stage: What the progress bar says.

    Raises:
        ValueError: If a file has a run of other settings.
    """
    missing = [job for job in jobs if load_finished(folder, job) is None]
    futures = [executor.submit(make_and_keep, folder, job) for job in missing]
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc=stage, unit="run")
    with bar:
        for future in as_completed(futures):
            future.result()  # raises what the worker raised
            bar.update()
    return [json.loads(_path(folder, job).read_text()) for job in jobs]


def make_and_keep(folder: Path, job: Job) -> None:
    """Makes the run and writes its file, whole or not at all."""
    write_json(_path(folder, job), {**job.settings, **job.function()})


def load_finished(folder: Path, job: Job) -> Result | None:
    """The run if it has been made, else None. A file that is no JSON is no run.

    Raises:
        ValueError: If the file has a run of other settings.
    """
    path = _path(folder, job)
    try:
        stored = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    for name, value in json.loads(json.dumps(job.settings)).items():
        if stored.get(name) != value:
            raise ValueError(
                f"{path}: has {name}={stored.get(name)!r}, and {value!r} is wanted; delete it, or "
                "keep these runs in another folder"
            )
    result: Result = stored
    return result


def _path(folder: Path, job: Job) -> Path:
    return folder / f"{job.name}.json"


@contextmanager
def workers(count: int) -> Iterator[Executor]:
    """So many processes, each with a ray of its own and one thread. On an error they end."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Imports once, for all runs of this process."""
    import ray
    import torch
    import transformers

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    ray.init(
        address="local",
        num_cpus=2,  # a learner and, where it samples ahead, a runner
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
