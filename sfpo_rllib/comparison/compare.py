"""Comparing two folders: of runs, of sets of runs, or of evaluations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfpo_rllib.comparison.curves import Curve, is_run, read_curve
from sfpo_rllib.comparison.evaluations import compare_evaluations, is_evaluation
from sfpo_rllib.comparison.plot import plot_evaluations, plot_runs
from sfpo_rllib.comparison.runs import compare_runs, measure_of, paired
from sfpo_rllib.core.checks import is_number
from sfpo_rllib.local_paths import local_path


@dataclass(frozen=True)
class Comparison:
    """The second against the first.

    Attributes:
        kind: "runs" or "evaluations".
        names: Of both.
        numbers: See `compare_runs` and `compare_evaluations`.
        plot: The picture, if one was asked for.
    """

    kind: str
    names: tuple[str, str]
    numbers: dict[str, Any]
    plot: Path | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        plot = None if self.plot is None else str(self.plot)
        return {"kind": self.kind, "names": list(self.names), **self.numbers, "plot": plot}


def compare(
    first: str | Path,
    second: str | Path,
    *,
    target: float | None = None,
    plot: str | Path | None = None,
) -> Comparison:
    """Compares two folders; differences are those of the second less the first.

    Args:
        first: The folder of a run, of a trial of Tune's, of several of these that differ in their
            seeds, or of an evaluation.
        second: Another one of the same kind.
        target: An accuracy that runs are to reach; None: what both reach.
        plot: A PNG file to write.

    Raises:
        ValueError: If the folders are not of these kinds, or have nothing to be paired by.
        OSError: If the picture cannot be written.
    """
    if target is not None and not is_number(target, above=0.0, most=1.0):
        raise ValueError(f"target={target!r}: must be an accuracy in (0, 1]")
    folders = [_folder(each) for each in (first, second)]
    names = _names(folders)
    path = None if plot is None else local_path("plot", plot)
    evaluations = [is_evaluation(folder) for folder in folders]
    if all(evaluations):
        if target is not None:
            raise ValueError(f"target={target!r}: must be left out with evaluations, it is of runs")
        numbers = compare_evaluations(folders[0], folders[1])
        if path is not None:
            plot_evaluations(numbers, names, path)
        return Comparison("evaluations", names, numbers, path)
    if any(evaluations):
        kinds = ["an evaluation" if each else "no evaluation" for each in evaluations]
        raise ValueError(f"must be of one kind: {first} is {kinds[0]}, {second} is {kinds[1]}")
    runs = _runs(folders[0]), _runs(folders[1])
    numbers = compare_runs(*runs, target=target)
    if path is not None:
        pairs = paired(*runs)
        shown = [[pair[side] for pair in pairs] for side in (0, 1)]
        goal = target if target is not None or len(pairs) > 1 else numbers["targets"][0]
        plot_runs(shown, names, measure_of(pairs), goal, path)
    return Comparison("runs", names, numbers, path)


def _folder(given: str | Path) -> Path:
    path = Path(given).expanduser()
    if not path.is_dir():
        raise ValueError(f"{given}: there is no such folder")
    return path.resolve()


def _runs(folder: Path) -> list[Curve]:
    """The run that a folder is of, or those of the folders in it."""
    if is_run(folder):
        return [read_curve(folder)]
    children = sorted(child for child in folder.iterdir() if child.is_dir())
    if runs := [child for child in children if is_run(child)]:
        return [read_curve(child) for child in runs]
    if inside := [child.name for child in children if is_evaluation(child)]:
        raise ValueError(
            f"{folder}: has the evaluations of several models; name one of {', '.join(inside)}"
        )
    raise ValueError(
        f"{folder}: must be the folder of a run (progress.csv), of a trial of Tune's "
        "(result.json), of several of these, or of an evaluation (replies.jsonl)"
    )


def _names(folders: Sequence[Path]) -> tuple[str, str]:
    """The shortest ends of their paths that differ."""
    a, b = (folder.parts for folder in folders)
    for count in range(1, max(len(a), len(b))):
        first, second = "/".join(a[-count:]), "/".join(b[-count:])
        if first != second:
            return first, second
    return str(folders[0]), str(folders[1])
