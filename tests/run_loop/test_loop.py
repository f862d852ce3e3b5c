"""`run()` in this process: what it does at its ends, and wherever it is told to stop."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from probes import assert_equal_weights
from ray.tune.logger import LoggerCallback
from run_probe import make_config

from benchmarks.faults.training import digest
from sfpo_rllib import SFPO, SFPOConfig, run
from sfpo_rllib.reporting import PROGRESS, read_rows

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tiny_model: Path, folder: Path) -> SFPOConfig:
    return make_config(str(tiny_model), str(folder / "hold"))


def iterations(folder: Path) -> list[float]:
    return [row["iteration"] for row in read_rows(folder / PROGRESS)]


def soon(action: Callable[[], Any], after_s: float = 0.3) -> None:
    threading.Timer(after_s, action).start()


def stop_soon(signum: signal.Signals = signal.SIGTERM, after_s: float = 0.3) -> None:
    soon(lambda: os.kill(os.getpid(), signum), after_s)


def test_a_finished_run_starts_nothing_and_a_longer_one_goes_on(
    config: SFPOConfig, folder: Path
) -> None:
    seen: list[int] = []

    def go(iterations: int) -> Any:
        return run(
            config,
            folder,
            iterations=iterations,
            on_result=lambda algo, result: seen.append(algo.iteration),
        )

    first = go(2)
    assert (first.iterations, first.resumed_from, seen) == (2, None, [1, 2])
    again = go(2)
    assert (again.iterations, again.resumed_from, seen) == (2, 2, [1, 2])
    assert again.rows == first.rows and again.checkpoint == first.checkpoint
    longer = go(3)
    assert (longer.iterations, longer.resumed_from, seen) == (3, 2, [1, 2, 3])
    assert iterations(folder) == [1, 2, 3]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["finished"] and summary["iterations"] == 3 and summary["sessions"] == 2


def measured(algo: SFPO, workers: Any) -> dict[str, Any]:
    """An evaluation that is best at iteration 4."""
    return {"env_runners": {"accuracy": {2: 0.3, 4: 0.8, 6: 0.5}[algo.iteration + 1]}}


def test_the_best_checkpoint_is_spared_by_the_session_after_it_too(
    config: SFPOConfig, folder: Path
) -> None:
    config.evaluation(evaluation_interval=2, custom_evaluation_function=measured)
    how: dict[str, Any] = {"checkpoint_every": 1, "keep": 1, "keep_best": "heldout_accuracy"}
    for iterations, there in ((3, [2, 3]), (5, [4, 5]), (7, [4, 7])):
        run(config, folder, iterations=iterations, **how)
        found = sorted(path.name for path in folder.glob("checkpoint_*"))
        assert found == [f"checkpoint_{i:06d}" for i in there]


def test_evaluations_at_the_ends_stand_in_the_rows_and_change_nothing(
    config: SFPOConfig, folder: Path, tmp_path: Path
) -> None:
    config.evaluation(evaluation_duration=8)
    weights = []
    told: list[tuple[str, Any]] = []

    class Tracker(LoggerCallback):
        def log_trial_start(self, trial: Any) -> None:
            told.append(("start", trial.config["fast_steps"]))

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            told.append(("result", (iteration, "evaluation" in result, "config" in result)))

        def log_trial_save(self, trial: Any) -> None:
            told.append(("save", Path(trial.checkpoint.path).name))

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            told.append(("end", failed))

    for place, ends in ((folder, True), (tmp_path / "other", False)):
        result = run(
            config,
            place,
            iterations=2,
            evaluate_ends=ends,
            trackers=[Tracker()] if ends else [],
            on_end=lambda algo: weights.append(algo.get_module_weights()),
        )
        evaluated = [row["iteration"] for row in result.rows if "heldout_accuracy" in row]
        assert evaluated == ([0, 2] if ends else [])
    assert_equal_weights(*weights)
    assert iterations(folder) == [0, 1, 2]
    assert told == [
        ("start", 3),
        ("result", (0, True, False)),
        ("result", (1, False, False)),
        ("result", (2, False, False)),
        ("save", "checkpoint_000002"),
        ("result", (2, True, False)),
        ("end", False),
    ]
    assert not (tmp_path / "other" / "trackers").exists()


@pytest.mark.parametrize("trackers", ["wandb", [3], None, [LoggerCallback]])
def test_what_is_no_tracker_is_refused(config: SFPOConfig, folder: Path, trackers: Any) -> None:
    with pytest.raises(ValueError, match="must be a list of Ray Tune's callbacks"):
        run(config, folder, iterations=2, trackers=trackers)


def test_a_checkpoint_of_another_loop_is_gone_on_from_if_its_config_is_the_same(
    config: SFPOConfig, folder: Path
) -> None:
    algo = config.copy(copy_frozen=False).build_algo()
    algo.train()
    algo.save_to_path(str(folder / "checkpoint_000001"))
    algo.stop()
    with pytest.raises(ValueError, match=r"fast_steps=2: must be 3"):
        run(config.copy(copy_frozen=False).training(fast_steps=2), folder, iterations=2)
    assert run(config, folder, iterations=2, keep=1).resumed_from == 1
    assert (folder / "checkpoint_000001").is_dir()  # not of run()'s making


def test_a_batch_that_is_given_up_while_sampling_is_asked_for_again(
    config: SFPOConfig, folder: Path, tmp_path: Path
) -> None:
    digests: list[dict[str, Any]] = []

    def keep(algo: SFPO) -> None:
        digests.append(digest(algo))

    def hang_in_the_third(algo: SFPO, result: dict[str, Any]) -> None:
        if algo.iteration == 2:
            (folder / "hold").touch()
            stop_soon()

    run(config, tmp_path / "whole", iterations=4, on_end=keep)
    with pytest.raises(SystemExit) as ended:
        run(config, folder, iterations=4, grace_s=0.5, on_result=hang_in_the_third)
    assert ended.value.code == 143
    (folder / "hold").unlink()
    assert run(config, folder, iterations=4, on_end=keep).resumed_from == 2
    assert digests[0] == digests[1]
    assert iterations(folder) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_that_samples_ahead_is_stopped_and_goes_on_as_if_it_had_not_been(
    config: SFPOConfig, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests: list[dict[str, Any]] = []
    config.env_runners(num_env_runners=1, max_staleness=1)
    options: dict[str, Any] = {"iterations": 7, "checkpoint_every": 2, "grace_s": 2}

    def keep(algo: SFPO) -> None:
        digests.append(digest(algo))

    def hang(algo: SFPO, result: dict[str, Any]) -> None:
        if algo.iteration == 3:
            (folder / "hold").touch()
            stop_soon(after_s=2.0)  # when all that was sampled by then is learned from

    def stop(algo: SFPO, result: dict[str, Any]) -> None:
        if algo.iteration == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    run(config, tmp_path / "whole", on_end=keep, **options)
    # What is sampled ahead does not come to its end: the last checkpoint stands.
    with pytest.raises(SystemExit):
        run(config, folder, on_result=hang, **options)
    assert "saved in" in (last := capsys.readouterr().err.splitlines()[-1]), last
    assert "was not saved, as it samples ahead" in last
    (folder / "hold").unlink()
    # It does: it is part of the checkpoint.
    with pytest.raises(SystemExit):
        run(config, folder, on_result=stop, **options)
    assert "was not saved" not in capsys.readouterr().err
    assert run(config, folder, on_end=keep, **options).resumed_from == 5
    assert digests[0] == digests[1]
    assert iterations(folder) == list(range(1, 8))


def test_an_update_that_outlasts_the_grace_is_lost_and_the_last_checkpoint_stands(
    config: SFPOConfig,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    learn = SFPO._learn

    def slowly(algo: SFPO, groups: Any) -> None:
        learn(algo, groups)
        if algo.iteration == 2:
            stop_soon()
            time.sleep(60)

    monkeypatch.setattr(SFPO, "_learn", slowly)
    with pytest.raises(SystemExit):
        run(config, folder, iterations=4, checkpoint_every=1, grace_s=0.5)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "iteration 2 of 4 saved in" in last and "iteration 3 was cut short" in last
    monkeypatch.undo()
    assert run(config, folder, iterations=4).resumed_from == 2
    assert iterations(folder) == [1, 2, 3, 4]


def test_an_evaluation_that_is_given_up_costs_no_iteration(
    config: SFPOConfig, folder: Path
) -> None:
    config.evaluation(evaluation_interval=1, evaluation_duration=8)

    def hang(*, algorithm: SFPO, **kwargs: Any) -> None:
        if algorithm.iteration == 1:
            (folder / "hold").touch()
            stop_soon()

    config.callbacks(on_evaluate_start=hang)
    with pytest.raises(SystemExit):
        run(config, folder, iterations=3, grace_s=0.5)
    (folder / "hold").unlink()
    config.callbacks(on_evaluate_start=None)
    result = run(config, folder, iterations=3)
    assert result.resumed_from == 2
    evaluated = ["heldout_accuracy" in row for row in result.rows]
    assert evaluated == [True, False, True]


def test_an_iteration_within_the_grace_is_finished(config: SFPOConfig, folder: Path) -> None:
    def hang(algo: SFPO, result: dict[str, Any]) -> None:
        if algo.iteration == 1:
            (folder / "hold").touch()
            stop_soon()
            threading.Timer(1.0, (folder / "hold").unlink).start()

    with pytest.raises(SystemExit):
        run(config, folder, iterations=4, on_result=hang)
    assert iterations(folder) == [1, 2]
    assert (folder / "checkpoint_000002").is_dir()


def test_in_a_shell_ctrl_c_saves_and_is_a_keyboard_interrupt(
    config: SFPOConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="Ctrl-C: stopped, iteration 1 of 3 saved in"):
        run(config, folder, iterations=3, on_result=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert signal.getsignal(signal.SIGINT) == before
    assert run(config, folder, iterations=3).resumed_from == 1


def test_a_signal_while_it_is_built_ends_it_at_once(
    config: SFPOConfig,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slowly(algo: SFPO, *args: Any) -> None:
        stop_soon()
        time.sleep(60)

    monkeypatch.setattr(SFPO, "setup", slowly)
    with pytest.raises(SystemExit) as ended:
        run(config, folder, iterations=1)
    assert ended.value.code == 143
    assert "stopped before anything was saved" in capsys.readouterr().err


def test_an_error_is_raised_and_the_run_goes_on_from_its_last_checkpoint(
    config: SFPOConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = SFPO._learn

    def fail(algo: SFPO, groups: Any) -> None:
        if algo.iteration == 2:
            raise OSError("No space left on device")
        learn(algo, groups)

    monkeypatch.setattr(SFPO, "_learn", fail)
    with pytest.raises(OSError, match="No space left"):
        run(config, folder, iterations=4, checkpoint_every=1)
    monkeypatch.undo()
    assert run(config, folder, iterations=4).resumed_from == 2
    ended = [s["ended"] for s in json.loads((folder / "run.json").read_text())["sessions"]]
    assert ended == ["error", "finished"]
