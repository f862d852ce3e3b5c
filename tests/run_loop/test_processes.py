"""Runs that are killed and told to stop, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray")

import run_probe
from run_probe import ITERATIONS

from benchmarks.faults.training import digest
from sfpo_rllib.reporting import PROGRESS, read_rows

pytestmark = pytest.mark.slow

Start = Callable[..., "Run"]


class Run:
    """A process that trains."""

    def __init__(self, folder: Path, model: Path, grace_s: float) -> None:
        self.folder = folder
        self.errors = folder.parent / f"{folder.name}.stderr"
        command = [sys.executable, "-m", "run_probe", str(folder), str(model), "1", str(grace_s)]
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
        self._watched: list[psutil.Process] = []

    def wait_for(self, iteration: int) -> None:
        """Until it has done this iteration."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.split() == ["iteration", str(iteration)]:
                self._watched = psutil.Process(self.process.pid).children(recursive=True)
                assert self._watched, "ray's processes"
                return
        pytest.fail(f"it ended before iteration {iteration}: {self.errors.read_text()}")

    def wait_for_sampling(self) -> None:
        """Until an environment waits."""
        wait_until(lambda: (self.folder / "waiting").exists())

    def signal(self, signum: signal.Signals, *, group: bool = False) -> None:
        """Sends it, to the whole group as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, signum)

    def end(self) -> tuple[int, str]:
        """Exit code and the end of stderr, once it and all that it started are gone."""
        code = self.process.wait(timeout=120)
        if code == -signal.SIGKILL:  # two of Ray's agents look for it for another minute
            self._watched = [process for process in self._watched if is_worker(process)]
        wait_until(lambda: not any(map(is_running, self._watched)), timeout_s=30)
        return code, self.errors.read_text()


def is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_worker(process: psutil.Process) -> bool:
    try:
        return "GroupEnvRunner" in process.cmdline()[0]
    except (psutil.NoSuchProcess, IndexError):
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def start(ray_elsewhere: None, tiny_model: Path) -> Iterator[Start]:
    runs: list[Run] = []

    def begin(folder: Path, grace_s: float = 60) -> Run:
        folder.mkdir(exist_ok=True)
        runs.append(Run(folder, tiny_model, grace_s))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)


def test_a_run_that_is_killed_and_stopped_again_and_again_equals_an_undisturbed_one(
    start: Start, ray_cluster: None, tiny_model: Path, tmp_path: Path
) -> None:
    digests: dict[str, dict[str, Any]] = {}

    def go(name: str) -> Any:
        def keep(algo: Any) -> None:
            digests[name] = digest(algo)

        return run_probe.go(tmp_path / name, str(tiny_model), 0, on_end=keep)

    whole = go("whole")
    folder = tmp_path / "disturbed"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint_of_a_friend").mkdir()

    # Killed after iteration 3: goes on from checkpoint 2.
    run = start(folder)
    run.wait_for(3)
    run.signal(signal.SIGKILL)
    assert run.end()[0] == -signal.SIGKILL
    assert len(read_rows(folder / PROGRESS)) >= 3

    # Told to stop while its environments hang: gives the batch up and saves what was before it.
    (folder / "hold_after_3").touch()
    run = start(folder, grace_s=1)
    run.wait_for(3)
    run.wait_for_sampling()
    run.signal(signal.SIGTERM)
    code, errors = run.end()
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("SIGTERM: stopped, iteration 3 of 6 saved in ")
    assert last.endswith("To go on, run the same again.")
    assert [row["iteration"] for row in read_rows(folder / PROGRESS)] == [1, 2, 3]

    # Ctrl-C reaches the whole group: finishes its batch and saves.
    (folder / "hold").unlink()
    run = start(folder)
    run.wait_for(4)
    run.signal(signal.SIGINT, group=True)
    code, errors = run.end()
    assert code == 128 + signal.SIGINT
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("Ctrl-C: stopped, iteration ")

    result = go("disturbed")
    assert digests["disturbed"] == digests["whole"]
    assert result.iterations == ITERATIONS
    assert [row["iteration"] for row in result.rows] == [*range(1, ITERATIONS + 1)]
    for name in ("rollouts", "accuracy", "reward", "entropy", "displacement_norm"):
        assert [row[name] for row in result.rows] == [row[name] for row in whole.rows]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "checkpoint_of_a_friend").is_dir()
    checkpoints = sorted(path.name for path in folder.glob("checkpoint_0*"))
    assert checkpoints[-1] == f"checkpoint_{ITERATIONS:06d}" and len(checkpoints) == 2
    record = json.loads((folder / "run.json").read_text())
    ended = [session["ended"] for session in record["sessions"]]
    assert ended == ["", "SIGTERM", "SIGINT", "finished"]


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing_running(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "hold_after_2").touch()
    run = start(folder, grace_s=600)
    run.wait_for(2)
    run.wait_for_sampling()
    run.signal(signal.SIGINT, group=True)
    time.sleep(1.5)
    assert run.process.poll() is None
    run.signal(signal.SIGINT, group=True)
    begun = time.monotonic()
    code, errors = run.end()
    assert code == 128 + signal.SIGINT
    assert time.monotonic() - begun < 30
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("Ctrl-C: ended at once.")
