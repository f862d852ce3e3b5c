"""Sweeps by name: a killed one goes on, ASHA stops trials, a PBT exploit reaches the learner."""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from tune_probe import ITERATIONS, KillLearner, sweep_config

from sfpo_rllib import SFPOConfig

pytestmark = pytest.mark.slow


def rows(trial_folder: str | Path) -> list[dict[str, Any]]:
    """All results a trial reported, in order."""
    lines = (Path(trial_folder) / "result.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def sfpo(row: dict[str, Any]) -> dict[str, Any]:
    return row["learners"]["default_policy"]["sfpo"]


def start_probe(action: str, folder: Path, model: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tune_probe", action, str(folder), str(model)],
        env={**os.environ, **environment},
        start_new_session=True,
    )


def kill_session(leader: int) -> None:
    """SIGKILL to all processes of a session: driver, ray and trials."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError):  # ended meanwhile
                if os.getsid(int(entry.name)) == leader:
                    os.kill(int(entry.name), signal.SIGKILL)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the sweep ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_killed_sweep_goes_on_from_its_checkpoint(
    ray_elsewhere: None, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    fit = start_probe(
        "fit", folder, tiny_model, WAIT_IN_ITERATION="3", TUNE_GLOBAL_CHECKPOINT_S="1"
    )

    def second_checkpoint_is_known() -> bool:
        states = [state.read_text() for state in folder.glob("experiment_state-*.json")]
        pickled = b"checkpoint_000001".hex()
        return any(pickled in state for state in states)

    try:
        wait_until(second_checkpoint_is_known, fit, timeout_s=240)
    finally:
        kill_session(fit.pid)
    assert fit.wait(timeout=10) == -signal.SIGKILL
    (killed,) = [trial.parent for trial in folder.glob("*/result.json")]
    assert [row["training_iteration"] for row in rows(killed)] == [1, 2]

    restore = start_probe("restore", folder, tiny_model)
    try:
        assert restore.wait(timeout=300) == 0
    finally:
        kill_session(restore.pid)

    trials = {trial.parent: rows(trial.parent) for trial in folder.glob("*/result.json")}
    assert sorted(results[0]["score"] for results in trials.values()) == [0.5, 1.0]
    assert len({row["pid"] for row in trials[killed]}) == 2
    assert [row["iterations_since_restore"] for row in trials[killed]] == [1, 2, 1, 2]
    for results in trials.values():
        assert [row["training_iteration"] for row in results] == list(range(1, ITERATIONS + 1))
        first = results[0]["cursor"] - 4
        for iteration, row in enumerate(results, start=1):
            assert row["cursor"] == first + 4 * iteration
            assert row["env_runners"]["num_rollouts_lifetime"] == 16 * iteration
            assert sfpo(row)["optimizer_steps_lifetime"] == 4 * iteration
            # The trigger's window holds what it saw before it was killed.
            assert len(row["entropies"]) == iteration
            assert row["entropies"][-1] == sfpo(row)["entropy"]
            assert (
                row["entropies"][:-1]
                == results[max(iteration - 2, 0)]["entropies"][: iteration - 1]
            )
    # Equal seeds: the killed trial has seen the same problems as the other.
    cursors = [[row["cursor"] for row in results] for results in trials.values()]
    assert cursors[0] == cursors[1]


class Reported(tune.Callback):
    """Every result that a trial reported, by the trial's id."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.rows[trial.trial_id].append(copy.deepcopy(result))


def fit(
    config: SFPOConfig,
    folder: Path,
    *,
    run_settings: dict[str, Any] | None = None,
    **tune_settings: Any,
) -> list[list[dict[str, Any]]]:
    """Runs a sweep by name; the results of its trials, the first trial first.

    They are taken as they are reported: when a trial takes over another's checkpoint, Tune's logger
    goes on from the copy of `result.json` that was last synced, which may lack rows.
    """
    reported = Reported()
    results = tune.Tuner(
        "SFPO",
        param_space=config,
        tune_config=tune.TuneConfig(metric="score", mode="max", **tune_settings),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(folder),
            stop={"training_iteration": ITERATIONS},
            verbose=0,
            callbacks=[reported],
            **(run_settings or {}),
        ),
    ).fit()
    assert not results.errors
    return [reported.rows[result.metrics["trial_id"]] for result in results]


def test_a_trial_whose_learner_dies_goes_on_from_its_checkpoint(
    running: Callable[[Any], Any], tiny_model: Path, tmp_path: Path
) -> None:
    """It learns what an undisturbed run in this process does."""
    config = (
        sweep_config(str(tiny_model))
        .environment(env_config={"order": str(tmp_path / "no order")})  # KillLearner's place too
        .callbacks(KillLearner)
    )
    (trial,) = fit(
        config.copy(copy_frozen=False).learners(num_learners=1),
        tmp_path,
        run_settings={
            "failure_config": tune.FailureConfig(max_failures=1),
            "checkpoint_config": tune.CheckpointConfig(checkpoint_frequency=1),
        },
    )
    assert [row["iterations_since_restore"] for row in trial] == [1, 1, 2, 3]
    algo = running(config.build_algo())
    killed, whole = (
        [(row["training_iteration"], row["cursor"], sfpo(row)["entropy"]) for row in rows]
        for rows in (trial, [algo.train() for _ in range(ITERATIONS)])
    )
    assert killed == whole


def test_asha_stops_the_worse_trial(ray_cluster: None, tiny_model: Path, tmp_path: Path) -> None:
    """The score is alpha."""
    config = sweep_config(str(tiny_model)).training(reposition_alpha=tune.grid_search([0.9, 0.1]))
    good, bad = fit(
        config,
        tmp_path,
        max_concurrent_trials=1,
        scheduler=ASHAScheduler(max_t=ITERATIONS, grace_period=1, reduction_factor=2),
    )
    assert [row["score"] for row in good] == [0.9] * ITERATIONS
    assert [row["score"] for row in bad] == [0.1]


def test_pbt_exploit_changes_alpha_in_the_learner(
    ray_cluster: None, tiny_model: Path, tmp_path: Path
) -> None:
    """The score is alpha, so that the first trial takes over the second one's state."""
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=2,
        hyperparam_mutations={"reposition_alpha": [0.35]},
        quantile_fraction=0.5,
        resample_probability=1.0,
        synch=True,
    )
    config = sweep_config(str(tiny_model)).training(reposition_alpha=tune.grid_search([0.2, 0.8]))
    exploiter, donor = fit(config, tmp_path, scheduler=scheduler)

    assert [row["learner_alpha"] for row in exploiter] == [0.2, 0.2, 0.35, 0.35]
    assert [row["learner_alpha"] for row in donor] == [0.8] * ITERATIONS
    for row in (*exploiter, *donor):
        pulled_back = sfpo(row)["pull_back_norm"] / sfpo(row)["displacement_norm"]
        assert pulled_back == pytest.approx(1 - row["learner_alpha"], rel=1e-3)
    # It goes on from the donor's state.
    assert exploiter[2]["entropies"][:2] == donor[1]["entropies"]
    assert exploiter[2]["cursor"] == donor[2]["cursor"]
