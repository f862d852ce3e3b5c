"""Kills at random places of a run, which then has to end as the undisturbed one, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ray.rllib.env.env_runner import EnvRunner

from benchmarks.faults.training import digest, make_config
from sfpo_rllib import GRPO
from sfpo_rllib.reporting import PROGRESS, read_rows


def kill_runners(model: Path, num_kills: int, seed: int) -> dict[str, Any]:
    """Kills one of two runners in each iteration, at a random place of it.

    Returns:
        `kills`: for each how far into its iteration it came, and what the iteration counted;
        `equal`: whether the run ended as one without kills; `seconds` of it.
    """
    rng = random.Random(seed)
    config = make_config(model, num_env_runners=2)
    undisturbed = config.copy(copy_frozen=False).build_algo()
    durations = [_timed(undisturbed) for _ in range(num_kills)]
    expected = digest(undisturbed)
    undisturbed.stop()

    algo = config.build_algo()
    kills, start = [], time.monotonic()
    for duration in durations:
        pids = algo.env_runner_group.foreach_env_runner(_pid, local_env_runner=False)
        delay = rng.random() * duration
        timer = threading.Timer(delay, os.kill, (rng.choice(pids), signal.SIGKILL))
        timer.start()
        result = algo.train()
        timer.join()
        counted = result["env_runners"]
        kills.append(
            {
                "after_s": delay,
                "of_s": duration,
                "runners_alive": len(pids),
                "num_env_runners_lost": counted["num_env_runners_lost"],
                "num_groups_reissued": counted["num_groups_reissued"],
            }
        )
    seconds = time.monotonic() - start
    found = digest(algo)
    algo.stop()
    return {
        "kills": kills,
        "equal": found == expected,
        "differing": _differing(found, expected),
        "seconds": seconds,
    }


def undisturbed_driver(folder: Path, model: Path, iterations: int) -> dict[str, Any]:
    """A run in a process of its own, to its end.

    Returns:
        `digest`, and `seconds` from its first iteration to its last checkpoint.
    """
    process = _start(folder, model, iterations)
    _wait_for_first_row(folder, process)
    start = time.monotonic()
    while not (folder / "digest.json").exists() and process.poll() is None:
        time.sleep(0.02)
    seconds = time.monotonic() - start
    if process.wait() != 0:
        raise RuntimeError(f"the undisturbed run ended with exit code {process.returncode}")
    return {"digest": _digest_in(folder), "seconds": seconds}


def kill_driver(
    folder: Path, model: Path, iterations: int, *, after_s: float, expected: dict[str, Any]
) -> dict[str, Any]:
    """Kills a driver so long after its first iteration, and goes on in another process.

    Returns:
        `killed_at`: rows that were reported by then; `went_on_from`: the checkpoint's iteration;
        `equal`: whether it ended as expected.
    """
    process = _start(folder, model, iterations)
    _wait_for_first_row(folder, process)
    time.sleep(after_s)
    process.kill()
    if process.wait() == 0:
        raise RuntimeError("the run ended before it was killed")
    killed_at = len(read_rows(folder / PROGRESS))
    if _start(folder, model, iterations).wait() != 0:
        raise RuntimeError("the run could not go on")
    sessions = json.loads((folder / "run.json").read_text())["sessions"]
    rows = read_rows(folder / PROGRESS)
    found = _digest_in(folder)
    return {
        "after_s": after_s,
        "killed_at": killed_at,
        "went_on_from": sessions[-1]["from_iteration"],
        "rows_once_each": [row["iteration"] for row in rows] == list(range(1, iterations + 1)),
        "equal": found == expected,
        "differing": _differing(found, expected),
    }


def _start(folder: Path, model: Path, iterations: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.faults.training", str(folder), str(model)]
    command += ["--iterations", str(iterations), "--num-env-runners", "1"]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "output.txt", "a") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


def _wait_for_first_row(folder: Path, process: subprocess.Popen[bytes]) -> None:
    while not read_rows(folder / PROGRESS):
        if process.poll() is not None:
            raise RuntimeError(f"the run ended early: see {folder / 'output.txt'}")
        time.sleep(0.02)


def _digest_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "digest.json").read_text())
    return content


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [name for name in expected if found.get(name) != expected[name]]


def _timed(algo: GRPO) -> float:
    start = time.monotonic()
    algo.train()
    return time.monotonic() - start


def _pid(runner: EnvRunner) -> int:
    return os.getpid()
