"""What Ray's logger callbacks are told of a run and of a trial."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from ray import cloudpickle
from ray.tune import Callback
from ray.tune.callback import CallbackList
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from tensorboardX.proto.event_pb2 import Event

from sfpo_rllib.tracking import (
    RunAsTrial,
    Trackers,
    go_on_as,
    make_tracker,
    numbers,
    numbers_only,
)

RESULT = {
    "training_iteration": 1,
    "config": {"lr": 1e-3, "num_learners": 2},
    "date": "today",
    "env_runners": {"accuracy": 0.5, "num": np.int64(3), "worst": np.float32("nan")},
    "learners": {"default_policy": {"sfpo": {"entropy_z": math.nan, "entropy": 0.7}}},
    "too_much": math.inf,
}


class Recorder(Callback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def setup(self, stop: Any = None, num_samples: Any = None, **info: Any) -> None:
        self.told.append(("setup", {}))

    def on_trial_start(self, **info: Any) -> None:
        self.told.append(("start", info))

    def on_trial_result(self, **info: Any) -> None:
        self.told.append(("result", info))

    def on_trial_save(self, **info: Any) -> None:
        self.told.append(("save", info))

    def on_trial_complete(self, **info: Any) -> None:
        self.told.append(("complete", info))

    def on_trial_error(self, **info: Any) -> None:
        self.told.append(("error", info))

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        self.told.append(("end", info))


@pytest.fixture
def trial(tmp_path: Path) -> RunAsTrial:
    return RunAsTrial(folder=tmp_path, trial_id="ab12", algorithm="SFPO", config={"lr": 1e-3})


def test_numbers_have_neither_settings_nor_what_is_not_finite() -> None:
    assert numbers(RESULT) == {
        "training_iteration": 1,
        "date": "today",
        "env_runners": {"accuracy": 0.5, "num": 3},
        "learners": {"default_policy": {"sfpo": {"entropy": 0.7}}},
    }


def test_a_callback_of_a_sweep_is_told_numbers_also_after_it_was_copied_or_pickled() -> None:
    one = numbers_only(numbers_only(Recorder()))
    for callback in (one, copy.deepcopy(one), cloudpickle.loads(cloudpickle.dumps(one))):
        assert isinstance(callback, Recorder)
        before = [*one.told]
        CallbackList([callback]).on_trial_result(
            iteration=7, trials=[], trial="trial", result=RESULT
        )
        what, info = callback.told[-1]
        assert (what, info["iteration"], info["trial"]) == ("result", 7, "trial")
        assert info["result"] == numbers(RESULT)
        assert callback is one or one.told == before


def test_a_run_is_told_as_a_sweeps_only_trial(trial: RunAsTrial, tmp_path: Path) -> None:
    recorder = Recorder()
    trackers = Trackers([recorder], trial, iteration=4)
    trackers.add({**RESULT, "training_iteration": 5})
    trackers.add({"evaluation": {"accuracy": 0.25}})
    trackers.saved(tmp_path)
    trackers.close(failed=False)
    assert [what for what, _ in recorder.told] == [
        *("setup", "start", "result", "result", "save", "complete", "end")
    ]
    results = [info["result"] for what, info in recorder.told if what == "result"]
    assert [result["training_iteration"] for result in results] == [5, 5]
    assert results[1]["evaluation"] == {"accuracy": 0.25}
    assert trial.checkpoint is not None and trial.checkpoint.path == str(tmp_path)
    Trackers([recorder], trial).close(failed=True)
    assert [what for what, _ in recorder.told][-2:] == ["error", "end"]


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """Of TensorBoard's files: step, tag, value."""
    found = []
    for path in folder.rglob("events.out.tfevents*"):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def test_rays_own_loggers_take_a_run_for_a_trial(trial: RunAsTrial, tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("the run's own")
    loggers = [JsonLoggerCallback(), CSVLoggerCallback(), TBXLoggerCallback()]
    trackers = Trackers(loggers, trial)
    trackers.add({"training_iteration": 0, "evaluation": {"accuracy": 0.25}})
    trackers.add(RESULT)
    trackers.close(failed=False)
    written = tmp_path / "trackers"
    lines = (written / "result.json").read_text().splitlines()
    assert [json.loads(line)["training_iteration"] for line in lines] == [0, 1]
    assert "NaN" not in lines[1] and "config" not in json.loads(lines[1])
    assert json.loads((written / "params.json").read_text()) == {"lr": 1e-3}
    found = {(step, tag): value for step, tag, value in scalars(written)}
    assert found[0, "ray/tune/evaluation/accuracy"] == 0.25  # before the first iteration
    assert found[1, "ray/tune/env_runners/accuracy"] == 0.5
    assert all(math.isfinite(value) for value in found.values())
    assert not any("config/" in tag or "entropy_z" in tag for _, tag in found)
    assert (tmp_path / "progress.csv").read_text() == "the run's own"


def test_without_trackers_nothing_is_written(trial: RunAsTrial, tmp_path: Path) -> None:
    trackers = Trackers([], trial)
    trackers.add(RESULT)
    trackers.close(failed=False)
    assert list(tmp_path.iterdir()) == []


def test_mlflow_has_the_numbers_of_a_run_and_goes_on_with_it(
    trial: RunAsTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    trackers = Trackers([make_tracker("mlflow", "sums")], trial)
    trackers.add({"training_iteration": 0, "evaluation": {"accuracy": 0.25}})
    trackers.add(RESULT)
    trackers.close(failed=True)
    again = RunAsTrial(
        folder=tmp_path, trial_id="ab12", algorithm="SFPO", config={"lr": 2e-3, "runners": {"n": 2}}
    )
    trackers = Trackers([make_tracker("mlflow", "sums")], again, iteration=1)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("sums")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "RUNNING"
    trackers.add({**RESULT, "training_iteration": 2})
    trackers.close(failed=False)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.001", "runners/n": "2"}, "what it began with stays"
    assert run.data.metrics["env_runners/accuracy"] == 0.5
    assert not any("config" in name or "entropy_z" in name for name in run.data.metrics)
    (before,) = client.get_metric_history(run.info.run_id, "evaluation/accuracy")
    assert (before.step, before.value) == (0, 0.25)
    history = client.get_metric_history(run.info.run_id, "env_runners/accuracy")
    assert [point.step for point in history] == [1, 2]
    other = RunAsTrial(folder=tmp_path, trial_id="cd34", algorithm="SFPO", config={})
    Trackers([make_tracker("mlflow", "sums")], other).close(failed=False)
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_wandb_goes_on_with_the_page_of_a_run_unless_it_is_told_otherwise() -> None:
    pytest.importorskip("wandb")
    tracker, told = make_tracker("wandb", "sums"), make_tracker("wandb", "sums")
    told.kwargs["resume"] = "never"
    for each in (tracker, told):
        go_on_as(each, "ab12")
    assert tracker.project == "sums"
    assert (tracker.kwargs, told.kwargs) == ({"resume": "allow"}, {"resume": "never"})


def test_other_callbacks_are_left_alone() -> None:
    recorder = Recorder()
    go_on_as(recorder, "ab12")
    assert vars(recorder) == {"told": []}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_said_to_be(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util as util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda n: None if n == name else find(n))
    with pytest.raises(ValueError, match=f"{name}='x': {name} is not installed; pip install"):
        make_tracker(name, "x")
