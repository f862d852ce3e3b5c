"""The loop around `train()` that can be killed, and goes on."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS
from ray.rllib.utils.typing import ResultDict
from ray.tune import Callback

from sfpo_rllib.algorithms.grpo import GRPO, GRPOConfig
from sfpo_rllib.core.checks import is_int, is_number, nearest, problems_of
from sfpo_rllib.core.registry import name_of
from sfpo_rllib.env_runners.runner_calls import kill_runners
from sfpo_rllib.interrupt import BatchGivenUp, StopRequest, is_interactive
from sfpo_rllib.local_paths import local_path
from sfpo_rllib.provenance import machine, versions
from sfpo_rllib.ray_start import start_ray
from sfpo_rllib.reporting import (
    FIELDS,
    HELD_OUT,
    PROGRESS,
    finite,
    iteration_line,
    read_rows,
    write_json,
)
from sfpo_rllib.run_loop.folder import SUMMARY, RunFolder, Session, iteration_of
from sfpo_rllib.run_loop.journal import Journal

logger = logging.getLogger(__name__)

OnResult = Callable[[GRPO, ResultDict], Any]
OnEnd = Callable[[GRPO], Any]


@dataclass(frozen=True)
class RunResult:
    """What came of a run, over all its sessions.

    Attributes:
        folder: Where its files are.
        checkpoint: The newest.
        iterations: Done.
        resumed_from: The iteration that this session went on from; None if it began the run.
        rows: Those of progress.csv, by column: one an iteration.
        seconds: Wall-clock of all sessions; of those that were killed, up to their last checkpoint.
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arguments of `run()`, apart from what it trains and where."""

    iterations: int
    checkpoint_every: int
    keep: int
    keep_best: str | None
    grace_s: float
    evaluate_ends: bool
    trackers: Sequence[Callback]
    on_result: OnResult | None
    on_end: OnEnd | None

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        for name in ("iterations", "checkpoint_every", "keep"):
            if not is_int(getattr(self, name), least=1):
                yield f"{name}={getattr(self, name)!r}: must be an integer of at least 1"
        if not (self.keep_best is None or self.keep_best in FIELDS):
            yield (
                f"keep_best={self.keep_best!r}: must be None or a column of {PROGRESS}, one of "
                f"{list(FIELDS)}{nearest(self.keep_best, FIELDS)}"
            )
        if not is_number(self.grace_s, least=0):
            yield f"grace_s={self.grace_s!r}: must be a number of seconds, at least 0"
        if not isinstance(self.trackers, list | tuple) or not all(
            isinstance(tracker, Callback) for tracker in self.trackers
        ):
            yield (
                f"trackers={self.trackers!r}: must be a list of Ray Tune's callbacks, e.g. "
                "[WandbLoggerCallback(project='sums')]"
            )
        for name in ("on_result", "on_end"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                yield f"{name}={getattr(self, name)!r}: must be None or a function"


def run(
    config: GRPOConfig,
    folder: str | Path,
    *,
    iterations: int,
    checkpoint_every: int = 10,
    keep: int = 2,
    keep_best: str | None = None,
    grace_s: float = 60.0,
    evaluate_ends: bool = False,
    may_differ: Collection[str] = (),
    trackers: Sequence[Callback] = (),
    on_result: OnResult | None = print_line,
    on_end: OnEnd | None = None,
) -> RunResult:
    """Trains up to an iteration, from wherever the folder's run stands, and stops when told to.

    Called again with the same arguments, whatever ended it, it goes on from the newest whole
    checkpoint in the folder as if it had never ended. The folder gets run.json, progress.csv,
    summary.json, TensorBoard's events and the checkpoints; other files in it are left alone.

    On SIGTERM or Ctrl-C the iteration under way is finished if it takes no more than `grace_s`,
    else its batch is given up; the run is saved and ends with one line and exit code 143 or 130.
    An update that takes longer cannot be taken back: then the run goes on from its last checkpoint.
    A second Ctrl-C ends it at once.

    Args:
        config: What to train: of a run in the folder, all but the machines it runs on must be the
            same.
        folder: A local path.
        iterations: To be done in all. With more than last time the run is lengthened.
        checkpoint_every: Iterations between checkpoints; the last one is saved too.
        keep: How many checkpoints stay, the newest ones.
        keep_best: A column of progress.csv, e.g. "heldout_accuracy": the checkpoint at whose own
            iteration it was highest stays too, of equal ones the newest. One whose row does not
            have it, as there was no evaluation at that iteration, is never the best. None: only
            the newest stay.
        grace_s: Seconds that an iteration may take after the signal; saving comes after them.
        evaluate_ends: Evaluates before the first iteration and after the last one too, whatever
            `evaluation_interval` says.
        may_differ: Settings that may differ from those of the run in the folder, e.g. `("lr",)`.
        trackers: Callbacks of Ray Tune's that log, such as `WandbLoggerCallback`: they are told
            the numbers of each iteration, and of the evaluations at the ends.
        on_result: Called with algorithm and result after each iteration; prints a line by default.
        on_end: Called with the algorithm after the last iteration.

    Returns:
        What came of it. A run that is at its end already starts nothing.

    Raises:
        ValueError: If an argument or the config is wrong, or the folder holds another run.
        CheckpointError: If all checkpoints in the folder are damaged.
        RayDidNotStart: If Ray does not, an OSError.
        SystemExit: After SIGTERM (143) or Ctrl-C (130).
        KeyboardInterrupt: After Ctrl-C in a notebook or an interactive shell.
    """
    plan = Plan(
        iterations=iterations,
        checkpoint_every=checkpoint_every,
        keep=keep,
        keep_best=keep_best,
        grace_s=grace_s,
        evaluate_ends=evaluate_ends,
        trackers=trackers,
        on_result=on_result,
        on_end=on_end,
    )
    problems = list(plan.problems())
    if not isinstance(config, GRPOConfig):
        problems.append(f"config={config!r}: must be a GRPOConfig or an SFPOConfig")
    elif keep_best == HELD_OUT and not config.evaluation_interval:
        problems.append(
            f"keep_best={keep_best!r}: must be another column, or evaluation_interval a number: "
            "it is evaluated at no checkpoint but the last"
        )
    problems += problems_of(lambda: local_path("folder", folder))
    if problems:
        raise ValueError("\n".join(["run: invalid arguments", *problems]))
    config = config.copy(copy_frozen=False)
    config.validate()
    with (
        RunFolder(folder, config, keep=keep, keep_best=keep_best, may_differ=may_differ) as place,
        StopRequest() as stop,
    ):
        session = _Session(plan, place, stop)
        if place.record.finished == iterations and place.checkpoint is not None:
            return session.result(iterations, iterations, read_rows(place.path / PROGRESS))
        result = session.train(config)
    if stop.signum is not None:
        _end(stop.signum, session.how_to_go_on())
    assert result is not None
    return result


def _end(signum: signal.Signals, line: str) -> NoReturn:
    """Ends as the signal would have, but for the line."""
    interactive = is_interactive()
    if interactive and signum == signal.SIGINT:
        raise KeyboardInterrupt(line)
    print(line, file=sys.stderr, flush=True)
    if interactive:
        signal.raise_signal(signum)  # its old handler is back
    raise SystemExit(128 + signum)


class _Session:
    """One process's part of a run."""

    def __init__(self, plan: Plan, place: RunFolder, stop: StopRequest) -> None:
        self._plan, self._place, self._stop = plan, place, stop
        self._start = time.monotonic()
        self._lost = ""  # what could not be saved when it was told to stop

    def train(self, config: GRPOConfig) -> RunResult | None:
        """Trains to the end; returns None if it was told to stop."""
        ray_was_up = ray.is_initialized()
        algo: GRPO | None = None
        try:
            with self._stop.interrupting(grace_s=0):  # nothing is worth finishing yet
                if not ray_was_up:
                    self._start_ray()
                algo = config.build_algo()
                if self._place.checkpoint is not None:
                    algo.restore_from_path(str(self._place.checkpoint))
            self._stop.install()  # Ray and vLLM have handlers of their own
            return self._iterate(algo)
        except BatchGivenUp:
            return None
        finally:
            if algo is not None:
                self._close(algo)
            if not ray_was_up:
                ray.shutdown()

    def result(
        self, iterations: int, resumed_from: int | None, rows: list[dict[str, float]]
    ) -> RunResult:
        """What came of all sessions."""
        place = self._place
        assert place.checkpoint is not None
        seconds = sum(session.seconds for session in place.record.sessions)
        return RunResult(place.path, place.checkpoint, iterations, resumed_from, rows, seconds)

    def how_to_go_on(self) -> str:
        """Where a run that was told to stop stands."""
        checkpoint = self._place.checkpoint
        if checkpoint is None:
            stands = "stopped before anything was saved"
        else:
            done = f"{iteration_of(checkpoint)} of {self._plan.iterations}"
            stands = f"stopped, iteration {done} saved in {checkpoint}"
        return f"{self._stop.name}: {stands}{self._lost}. To go on, run the same again."

    def _start_ray(self) -> None:
        try:
            start_ray()
        except SystemExit:  # what Ray makes of a SIGTERM while it starts
            self._stop.request(signal.SIGTERM)
            raise BatchGivenUp from None
        self._stop.install()

    def _iterate(self, algo: GRPO) -> RunResult | None:
        began_at = algo.iteration
        resumed_from = began_at if self._place.checkpoint is not None else None
        self._place.record.sessions.append(Session(began_at, began_at))
        self._place.record.finished = None
        self._place.write_record()
        report = Journal(self._place, algo, self._plan.trackers)
        algo.record_rollouts_in(self._place.path, after=began_at)
        ended = "error"
        try:
            self._train_on(algo, report)
            if self._stop.signum is not None:
                ended = self._stop.signum.name
                return None
            if self._plan.on_end is not None:
                self._plan.on_end(algo)
            self._place.record.finished = self._plan.iterations
            ended = "finished"
        finally:
            with suppress(OSError) if ended == "error" else nullcontext():  # e.g. the disk is full
                self._note(algo, report, ended)
                report.close()
            report.end(failed=ended == "error")
        return self.result(algo.iteration, resumed_from, report.rows)

    def _train_on(self, algo: GRPO, report: Journal) -> None:
        """Trains to the end, or until it is told to stop."""
        plan, stop = self._plan, self._stop
        if plan.evaluate_ends and algo.iteration == 0 and not report.rows:
            rollouts = {ENV_RUNNER_RESULTS: {"num_rollouts_lifetime": 0}}
            start = {"training_iteration": 0, **rollouts}
            self._evaluate(algo, lambda evaluation: report.add({**start, **evaluation}))
        while algo.iteration < plan.iterations and stop.signum is None:
            try:
                with self._interrupting(algo):
                    result = algo.train()
            except (BatchGivenUp, Exception) as error:
                if stop.signum is None:
                    raise
                # What the signal was sent to may be more than this process: anything may break.
                if not algo.give_up_batch():
                    why = "" if isinstance(error, BatchGivenUp) else f" ({error!r})"
                    self._lost = f"; iteration {algo.iteration + 1} was cut short{why}"
                break
            report.add(result)
            if plan.on_result is not None:
                plan.on_result(algo, result)
            due = algo.iteration % plan.checkpoint_every == 0 or algo.iteration == plan.iterations
            if due and stop.signum is None:
                self._save(algo, report)
        if stop.signum is not None:
            self._save_last(algo, report)
        elif plan.evaluate_ends and report.rows and HELD_OUT not in report.rows[-1]:
            self._evaluate(algo, report.add_to_last)

    def _save_last(self, algo: GRPO, report: Journal) -> None:
        """Saves what has not been saved yet, if the last iteration is whole."""
        if self._lost or self._place.record.sessions[-1].to_iteration == algo.iteration:
            return
        try:
            self._save(algo, report)
        except Exception as error:
            self._lost = f"; iteration {algo.iteration} could not be saved ({error})"

    def _evaluate(self, algo: GRPO, take: Callable[[ResultDict], None]) -> None:
        """Evaluates, unless the run is told to stop."""
        if self._stop.signum is not None:
            return
        try:
            with self._interrupting(algo):
                evaluation = algo.evaluate()
        except Exception:
            if self._stop.signum is None:
                raise
        if self._stop.signum is None:
            take({EVALUATION_RESULTS: evaluation})

    def _interrupting(self, algo: GRPO) -> AbstractContextManager[None]:
        return self._stop.interrupting(self._plan.grace_s, when=algo.expect_interrupt)

    def _save(self, algo: GRPO, report: Journal) -> None:
        """Saves, if what is sampled ahead comes to its end in time once it is told to stop."""
        try:
            if algo.samples_ahead:  # it has as long again as the iteration had
                with self._stop.interrupting(2 * self._plan.grace_s):
                    algo.finish_rollouts()
        except BatchGivenUp:
            self._lost = f"; iteration {algo.iteration} was not saved, as it samples ahead still"
            return
        report.sync()  # a checkpoint's rows are there when it is
        report.saved(self._place.save(algo, report.rows))
        self._place.record.sessions[-1].to_iteration = algo.iteration
        self._note(algo, report, "")

    def _note(self, algo: GRPO, report: Journal, ended: str) -> None:
        """Writes run.json and summary.json."""
        place, config = self._place, algo.config
        session = place.record.sessions[-1]
        session.seconds, session.ended = round(time.monotonic() - self._start, 1), ended
        place.write_record()
        summary = {
            "algorithm": place.record.identity.algorithm,
            "rollout_engine": name_of(config.rollout_engine),
            "seed": config.seed,
            "iterations": algo.iteration,
            "finished": place.record.finished is not None,
            "wall_seconds": sum(session.seconds for session in place.record.sessions),
            "sessions": len(place.record.sessions),
            "checkpoint": place.checkpoint and str(place.checkpoint),
            "first": finite(report.rows[0]) if report.rows else {},
            "last": finite(report.rows[-1]) if report.rows else {},
            "settings": place.record.identity.settings,
            "versions": versions(),
            "machine": machine(),
        }
        write_json(place.path / SUMMARY, summary)

    def _close(self, algo: GRPO) -> None:
        try:
            if self._stop.signum is not None:
                # They may be at a batch that was given up, or gone: do not wait for them.
                for runners in filter(None, [algo.env_runner_group, algo.eval_env_runner_group]):
                    kill_runners(runners)
            algo.stop()
        except Exception as error:
            if self._stop.signum is None:
                logger.warning("The algorithm did not stop properly: %r", error)
