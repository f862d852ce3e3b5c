"""What a person sees of an evaluation: bars or lines while it runs, tables when it is over."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from sfpo_rllib.evals import Evaluated, Evaluation, Reply, Task, Watcher
from sfpo_rllib.statistics import Estimate

SILENCE_S = 10.0  # the longest
_STAGE_CHARS = 36  # that a bar shows
WIDTH = 100  # of tables that go into a file
_NUMBERS = ("avg", "reward", "pass", "maj")


def quiet() -> None:
    """Has libraries keep their own bars and notices to themselves."""
    import transformers

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("ray").setLevel(logging.ERROR)


class Progress(Watcher):
    """A bar a task at a terminal; elsewhere a line now and then, never less often than 10 s."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: Bars | None = None
        if self._console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[accuracy]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
        self._stage, self._since = "starting", time.monotonic()
        self._bar: TaskID | None = None
        self._is_loading = False
        self._total = self._done = self._graded = 0
        self._right = 0.0
        self._is_over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._bars is not None:
            self._bars.stop()
        if kind is KeyboardInterrupt:
            line = f"stopped at {self._stage}; the replies that came are kept: to go on, run"
            self._console.print(f"{line} the same again", highlight=False, soft_wrap=True)
            raise SystemExit(130)

    def loading(self, model: Evaluated) -> None:
        """See `Watcher`."""
        self._begin(f"loading {model.name}", 0, 0)

    def begins(self, model: Evaluated, task: Task, *, done: int, total: int) -> None:
        """See `Watcher`."""
        self._begin(f"{model.name}: {task.name}", done, total)

    def replied(self, reply: Reply) -> None:
        """See `Watcher`."""
        self._done += 1
        if reply.success is not None:
            self._graded, self._right = self._graded + 1, self._right + reply.success
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=self._done, accuracy=self._accuracy())

    def ends(self, task: Task) -> None:
        """See `Watcher`."""
        if self._bars is None:
            self._print_line()

    def _begin(self, stage: str, done: int, total: int) -> None:
        self._stage, self._since = stage, time.monotonic()
        self._done, self._total = done, total
        self._graded, self._right = 0, 0.0
        if self._bars is None:
            self._print_line()
            return
        if self._is_loading and self._bar is not None:
            self._bars.remove_task(self._bar)
        self._is_loading = not total
        shown = stage if len(stage) <= _STAGE_CHARS else f"...{stage[3 - _STAGE_CHARS :]}"
        self._bar = self._bars.add_task(shown, total=total or None, completed=done, accuracy="")

    def _accuracy(self) -> str:
        return f"accuracy {self._right / self._graded:.3f}" if self._graded else ""

    def _tick(self) -> None:
        while not self._is_over.wait(SILENCE_S):
            if self._bars is None:
                self._print_line()

    def _print_line(self) -> None:
        count = f" {self._done}/{self._total} {self._accuracy()}".rstrip() if self._total else ""
        line = f"{self._stage}{count}, {time.monotonic() - self._since:.0f} s"
        self._console.print(line, highlight=False, soft_wrap=True)


def plain_console() -> Console:
    """Where results go: as wide as the terminal, or as a page."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def print_tables(evaluations: Sequence[Evaluation], best: Evaluation | None) -> None:
    """Prints a table a model, and which is best."""
    console = plain_console()
    for each in evaluations:
        console.print(_title(each), soft_wrap=True)
        console.print(_table(each))
        for line in _notes(each):
            console.print(line, highlight=False, soft_wrap=True)
    if best is not None:
        table = Table("model", "mean", box=box.SIMPLE_HEAD)
        for each in evaluations:
            mark = " (best)" if each is best else ""
            name = f"avg@{each.settings.samples}"
            value = _shown(name, each.mean[name]) if name in each.mean else f"{each.average}"
            table.add_row(each.model.name + mark, value)
        console.print(table)


def _title(evaluation: Evaluation) -> str:
    sampling, k = evaluation.settings.sampling, evaluation.settings.samples
    how = "greedy" if evaluation.settings.is_greedy else f"T = {sampling['temperature']:g}"
    return f"{evaluation.model.name}: {how}, {k} sample{'s' * (k > 1)}; accuracy in %"


def _table(evaluation: Evaluation) -> Table:
    k = evaluation.settings.samples
    there = {name for scores in evaluation.scores.values() for name in scores.numbers}
    names = [n for n in (f"{number}@{k}" for number in _NUMBERS) if n in there and n != "pass@1"]
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("task", "problems", *names, "tokens", "cut"):
        table.add_column(name)
    for task, scores in evaluation.scores.items():
        counts = scores.counts
        table.add_row(
            task,
            str(counts["num_problems"]),
            *(_shown(name, scores.numbers.get(name)) for name in names),
            f"{counts['completion_length_mean']:.0f}" if counts["num_problems"] else "-",
            f"{counts['truncated_fraction']:.0%}" if counts["num_problems"] else "-",
        )
    if len(evaluation.scores) > 1:
        means = (_shown(name, evaluation.mean.get(name)) for name in names)
        table.add_row("mean", "", *means, "", "")
    return table


def _shown(name: str, number: Estimate | None) -> str:
    """A share in percent, or a reward as it is, with its interval."""
    if number is None:
        return "-"
    scale, form = (1, ".3f") if name.startswith("reward") else (100, ".1f")
    value, low, high = (scale * x for x in (number.value, number.low, number.high))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _notes(evaluation: Evaluation) -> list[str]:
    lines = []
    for task, scores in evaluation.scores.items():
        if left_out := scores.counts["num_dropped"]:
            lines.append(
                f"{task}: {left_out} problems were dropped and do not count: their environment or "
                "prompt failed; results.json says why"
            )
    own = evaluation.scores.get("own")
    if evaluation.reported is not None and own is not None and own.numbers:
        number = own.numbers[f"avg@{evaluation.settings.samples}"]
        inside = "within" if number.low <= evaluation.reported <= number.high else "outside"
        lines.append(
            f"the run itself had measured {evaluation.reported:.1%}, {inside} the interval"
        )
    lines.append(f"{evaluation.num_sampled} replies sampled now; all are in {evaluation.folder}")
    return lines
