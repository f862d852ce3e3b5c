"""Runs, spread over worker processes, each written to a file as soon as it is over."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray
from tqdm import tqdm

from benchmarks.common import write_json
from benchmarks.update_rules.analysis import Result
from benchmarks.update_rules.tasks import TASKS, warm_started_model
from benchmarks.update_rules.training import Budget, Run, train
from benchmarks.update_rules.variants import Variant


class Pool:
    """Worker processes of one thread each, and the folder of finished runs."""

    def __init__(self, folder: Path, *, budget: Budget, num_workers: int) -> None:
        """Starts ray and the workers.

        Args:
            folder: Of finished runs, a JSON file each, and of the models that they start from.
            budget: Of every run. Finished runs of another budget are refused.
            num_workers: Processes.
        """
        self._folder = folder
        self._budget = budget
        # Ray would let any other process go first, and wall-clock is among what is measured.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # A logical CPU a worker, and what the algorithms in them ask for.
        ray.init(num_cpus=4 * num_workers, include_dashboard=False, log_to_driver=False)
        env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
        worker = ray.remote(num_cpus=1, runtime_env={"env_vars": env})(_Worker)
        self._workers = [worker.remote() for _ in range(num_workers)]

    def warm_start(self, tasks: Iterable[str]) -> None:
        """Makes the models of the tasks that have none."""
        self._each([("warm_start", (task, self._folder / "models")) for task in tasks], "models")

    def run(self, jobs: dict[Run, Variant], stage: str) -> list[Result]:
        """Runs what is not finished.

        Args:
            jobs: Runs with their variant.
            stage: For the progress bar.

        Returns:
            The results of all, in order.
        """
        calls = []
        for run, variant in jobs.items():
            path = self._path(run)
            if not is_finished(path, variant, self._budget):
                model = self._folder / "models" / run.task
                calls.append(("run", (run, variant, model, self._budget, path)))
        self._each(calls, stage)
        return [json.loads(self._path(run).read_text()) for run in jobs]

    def close(self) -> None:
        """Stops workers and ray."""
        ray.shutdown()

    def _path(self, run: Run) -> Path:
        return self._folder / "runs" / f"{run.name}.json"

    def _each(self, calls: list[tuple[str, tuple[Any, ...]]], description: str) -> None:
        waiting = list(reversed(calls))
        idle = list(self._workers)
        busy: dict[Any, Any] = {}
        with tqdm(total=len(calls), desc=description, unit="run", disable=None) as bar:
            while waiting or busy:
                while waiting and idle:
                    worker, (method, arguments) = idle.pop(), waiting.pop()
                    busy[getattr(worker, method).remote(*arguments)] = worker
                done, _ = ray.wait(list(busy))
                for ref in done:
                    idle.append(busy.pop(ref))
                    ray.get(ref)  # raises what the worker raised
                    bar.update()


def is_finished(path: Path, variant: Variant, budget: Budget) -> bool:
    """Whether the file has a finished run of this variant and budget.

    Raises:
        ValueError: If it is of another variant or budget.
    """
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    wanted = {"rule": repr(variant.rule), "trigger": variant.trigger, "budget": vars(budget)}
    for key, value in wanted.items():
        if found[key] != value:
            raise ValueError(
                f"{path}: is of {key}={found[key]}, and wanted is {value}; delete it, or give "
                "another --runs"
            )
    return True


class _Worker:
    """Imports once, then trains one run after another on one thread."""

    def __init__(self) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()

    def warm_start(self, task: str, folder: Path) -> None:
        warm_started_model(TASKS[task], folder)

    def run(self, run: Run, variant: Variant, model: Path, budget: Budget, path: Path) -> None:
        write_json(path, train(run, variant, model, budget))
