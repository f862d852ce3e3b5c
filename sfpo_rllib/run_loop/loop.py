"""The loop around `train()` that can be killed, and goes on."""

import json
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS
from ray.rllib.utils.typing import ResultDict

from sfpo_rllib.algorithms.grpo import GRPO, GRPOConfig
from sfpo_rllib.algorithms.grpo.values import is_int, is_number
from sfpo_rllib.env_runners.collect import kill_env_runners
from sfpo_rllib.interrupt import BatchGivenUp, StopRequest
from sfpo_rllib.reporting import PROGRESS, RunReport, iteration_line, read_rows, replacing
from sfpo_rllib.run_loop.folder import SUMMARY, RunFolder, Session

OnResult = Callable[[GRPO, ResultDict], Any]
OnEnd = Callable[[GRPO], Any]


@dataclass(frozen=True)
class RunResult:
    """What came of a run, over all its sessions.

    Attributes:
        folder: Where its files are.
        checkpoint: Of the last iteration.
        iterations: Done.
        resumed_from: The iteration that this session went on from; None if it began the run.
        rows: What progress.csv holds: a row an iteration, by column.
        seconds: Wall-clock of all sessions, up to the last save of those that were killed.
    """

    folder: Path
    checkpoint: Path
    iterations: int
    resumed_from: int | None
    rows: list[dict[str, float]]
    seconds: float


def print_line(algo: GRPO, result: ResultDict) -> None:
    """Prints a line about an iteration."""
    print(iteration_line(result), flush=True)


def run(
    config: GRPOConfig,
    folder: str | Path,
    *,
    iterations: int,
    checkpoint_every: int = 10,
    keep: int = 2,
    grace_s: float = 60.0,
    evaluate_ends: bool = False,
    may_differ: Collection[str] = (),
    on_result: OnResult | None = print_line,
    on_end: OnEnd | None = None,
) -> RunResult:
    """Trains up to an iteration, from wherever the folder's run stands; ends it well when told to.

    Called again with the same arguments, after whatever ended it, it goes on from the newest whole
    checkpoint in the folder, bit for bit as if it had never ended. `folder` then has run.json,
    progress.csv, summary.json and TensorBoard's events; other files in it are left alone.

    On SIGTERM or Ctrl-C the iteration under way is finished if it takes less than `grace_s`, else
    its batch is given up; the run is saved and ends with one line and exit code 143 or 130. An
    update that takes longer cannot be taken back: then the last checkpoint is where to go on from.
    A second Ctrl-C ends at once.

    Args:
        config: What to train. Of a run in the folder, all but where it runs must be the same.
        folder: A local path.
        iterations: To be done in all. More than last time lengthens the run.
        checkpoint_every: Iterations between checkpoints; the last one is saved too.
        keep: Checkpoints that stay in the folder.
        grace_s: Seconds that an iteration may take after the signal; saving comes after them.
        evaluate_ends: Evaluates before the first iteration and after the last one too, whatever
            `evaluation_interval` says.
        may_differ: Settings that may differ from those of the run in the folder, e.g. `("lr",)`.
        on_result: Called with algorithm and result after each iteration; prints a line by default.
        on_end: Called with the algorithm once, at the end of the last iteration.

    Returns:
        What came of it.

    Raises:
        ValueError: If an argument or the config is wrong, or the folder holds another run.
        CheckpointError: If the folder's checkpoints are all damaged.
        SystemExit: After SIGTERM (143) or Ctrl-C (130).
        KeyboardInterrupt: After Ctrl-C, in a notebook or an interactive shell.
    """
    problems = list(
        _problems(
            config,
            folder,
            iterations=iterations,
            checkpoint_every=checkpoint_every,
            keep=keep,
            grace_s=grace_s,
        )
    )
    if problems:
        raise ValueError("\n".join(["run: invalid arguments", *problems]))
    config = config.copy(copy_frozen=False)
    config.validate()
    with (
        RunFolder(folder, config, keep=keep, may_differ=may_differ) as place,
        StopRequest() as stop,
    ):
        if place.record.finished == iterations and place.checkpoint is not None:
            rows = read_rows(place.path / PROGRESS)
            return _result(place, iterations, iterations, rows)
        loop = _Loop(place, stop, iterations, checkpoint_every, grace_s)
        result = loop.run(config, evaluate_ends, on_result, on_end)
    if result is not None:
        return result
    _end(stop, loop.last_words)
    raise AssertionError("unreachable")


class _Loop:
    """One session of a run."""

    def __init__(
        self,
        place: RunFolder,
        stop: StopRequest,
        iterations: int,
        checkpoint_every: int,
        grace_s: float,
    ) -> None:
        self.last_words = ""
        self._place, self._stop = place, stop
        self._iterations, self._checkpoint_every = iterations, checkpoint_every
        self._grace_s = grace_s
        self._start = time.monotonic()
        self._saved = 0  # iteration of the newest checkpoint

    def run(
        self,
        config: GRPOConfig,
        evaluate_ends: bool,
        on_result: OnResult | None,
        on_end: OnEnd | None,
    ) -> RunResult | None:
        """Trains. Returns None if it was told to stop."""
        ray_was_up = ray.is_initialized()
        algo: GRPO | None = None
        try:
            with self._stop.interrupting(grace_s=0):  # nothing is lost
                self._start_ray()
                algo = self._build(config)
        ...
