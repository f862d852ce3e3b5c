"""Weights & Biases, MLflow and their like, by Ray's own callbacks: in Tune, and around `run()`."""

import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from ray.tune import Callback, Checkpoint
from ray.tune.utils import flatten_dict

AnyCallback = TypeVar("AnyCallback", bound=Callback)

# Ray's modules, which import a tracker's package: only where it is used.
TRACKERS = {
    "wandb": "ray.air.integrations.wandb",
    "mlflow": "ray.air.integrations.mlflow",
}
MLFLOW_TAG = "sfpo_rllib_run"  # by which a run is found again


def numbers(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what is no measurement: the config, and numbers that are not finite.

    Other nested values stay, under the same names.
    """
    return {name: value for name, value in _finite(result).items() if name != "config"}


def _finite(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _finite(value) if isinstance(value, Mapping) else value
        for name, value in result.items()
        if not (isinstance(value, Real) and not math.isfinite(value))
    }


def numbers_only(callback: AnyCallback) -> AnyCallback:
    """Has a callback of Tune be told `numbers(result)`; returns the callback.

    Without it MLflow is sent each setting as a metric in each iteration, and both it and W&B the
    NaN of what there is no value of.
    """
    callback.on_trial_result = functools.partial(_on_numbers, callback.on_trial_result)
    return callback


def _on_numbers(tell: Any, *args: Any, result: Mapping[str, Any], **info: Any) -> None:
    tell(*args, result=numbers(result), **info)


def make_tracker(name: str, project: str) -> Callback:
    """Ray's callback of that name, told numbers only.

    Args:
        name: "wandb" or "mlflow".
        project: W&B's project, MLflow's experiment.

    Raises:
        ValueError: If its package is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{name}={project!r}: {name} is not installed; pip install {name}")
    module = importlib.import_module(TRACKERS[name])
    if name == "wandb":
        return numbers_only(module.WandbLoggerCallback(project=project))
    return numbers_only(module.MLflowLoggerCallback(experiment_name=project))


def go_on_as(callback: Any, run_id: str) -> None:
    """Has Ray's callbacks of W&B and MLflow go on with the page of a run that goes on.

    By itself that of W&B begins the page anew, and that of MLflow another one beside it.

    Args:
        callback: Set up, and not begun.
        run_id: Of the run, the same when it goes on.
    """
    modules = {kind.__module__ for kind in type(callback).__mro__}
    if TRACKERS["wandb"] in modules:
        callback.kwargs.setdefault("resume", "allow")
    elif TRACKERS["mlflow"] in modules:
        _go_on_in_mlflow(callback, run_id)


def _go_on_in_mlflow(callback: Any, run_id: str) -> None:
    client = importlib.import_module("mlflow").MlflowClient()
    callback.tags = {**callback.tags, MLFLOW_TAG: run_id}
    found = client.search_runs(
        [callback.mlflow_util.experiment_id], f"tags.{MLFLOW_TAG} = '{run_id}'", max_results=1
    )
    if not found:
        return
    begun = found[0]
    client.update_run(begun.info.run_id, status="RUNNING")
    log_params = callback.mlflow_util.log_params

    def log_new_params(params_to_log: dict[str, Any], run_id: str) -> None:
        """MLflow refuses other values of what a run began with, such as its runners."""
        flat = flatten_dict(params_to_log)
        log_params({k: v for k, v in flat.items() if k not in begun.data.params}, run_id)

    callback.mlflow_util.start_run = lambda **new: begun
    callback.mlflow_util.log_params = log_new_params


class RunAsTrial:
    """What callbacks ask a trial of Tune for, of a run.

    Attributes:
        trial_id: The run's, the same when it goes on.
        config: All settings, as JSON has them.
        local_path: For files of the callbacks' own.
        checkpoint: The newest one saved since the run began or went on.
    """

    def __init__(
        self, *, folder: Path, trial_id: str, algorithm: str, config: Mapping[str, Any]
    ) -> None:
        self.trial_id = trial_id
        self.config = self.evaluated_params = dict(config)
        self.trainable_name = algorithm
        self.experiment_dir_name = folder.name
        self.local_path = self.path = str(folder / "trackers")
        self.local_experiment_path = str(folder)
        self.checkpoint: Checkpoint | None = None

    def __str__(self) -> str:
        return f"{self.trainable_name}_{self.experiment_dir_name}_{self.trial_id}"

    def init_local_path(self) -> None:
        """Makes the folder for the callbacks' files."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def get_ray_actor_ip(self) -> None:
        """It is no actor."""


class Trackers:
    """Tells callbacks of a run what they are told of a sweep's only trial."""

    def __init__(
        self, callbacks: Sequence[Callback], trial: RunAsTrial, *, iteration: int = 0
    ) -> None:
        """Says that the run begins, or goes on.

        Args:
            callbacks: Ray's, or of their kind.
            trial: The run.
            iteration: That it goes on from.
        """
        self._callbacks = [numbers_only(callback) for callback in callbacks]
        self._trial: Any = trial
        if callbacks:
            trial.init_local_path()
        self._iteration = iteration
        for callback in self._callbacks:
            callback.setup(stop=None, num_samples=1, total_num_samples=1)
            go_on_as(callback, trial.trial_id)
        self._tell("on_trial_start")

    def add(self, result: Mapping[str, Any]) -> None:
        """Says what an iteration's result is; more of the same iteration may follow."""
        self._iteration = int(result.get("training_iteration", self._iteration))
        stamped = {
            "trial_id": self._trial.trial_id,
            **result,
            "training_iteration": self._iteration,
        }
        self._tell("on_trial_result", result=stamped)

    def saved(self, checkpoint: Path) -> None:
        """Says that a checkpoint is there."""
        self._trial.checkpoint = Checkpoint.from_directory(checkpoint)
        self._tell("on_trial_save")

    def close(self, *, failed: bool) -> None:
        """Says that the run is over for now, and waits until callbacks have sent all."""
        self._tell("on_trial_error" if failed else "on_trial_complete")
        for callback in self._callbacks:
            callback.on_experiment_end(trials=[self._trial])

    def _tell(self, what: str, **more: Any) -> None:
        for callback in self._callbacks:
            tell = getattr(callback, what)
            tell(iteration=self._iteration, trials=[self._trial], trial=self._trial, **more)
