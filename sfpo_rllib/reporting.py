"""What a person at the terminal sees of a run, and the files it leaves: CSV, TensorBoard, plot."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from tensorboardX import SummaryWriter

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt

# Columns of the CSV file and where in RLlib's result they are.
COLUMNS = {
    "iteration": "training_iteration",
    "rollouts": "env_runners/num_rollouts_lifetime",
    "accuracy": "env_runners/accuracy",
    "reward": "env_runners/episode_return_mean",
    "entropy": "learners/default_policy/sfpo/entropy",
    "sfpo_active": "learners/default_policy/sfpo/active",
    "displacement_norm": "learners/default_policy/sfpo/displacement_norm",
    "tokens_per_s": "env_runners/tokens_per_s",
    "sample_s": "timers/sample",
    "learn_s": "timers/learn",
    "sync_weights_s": "timers/sync_weights",
    "heldout_accuracy": "evaluation/env_runners/accuracy",
}


def flatten(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a nested result as `("a/b", value)`."""
    for name, value in result.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}/")
        elif not isinstance(value, str | bool):
            try:
                yield f"{prefix}{name}", float(value)
            except (TypeError, ValueError):
                continue  # not a number: the config, a date


def iteration_line(result: Mapping[str, Any]) -> str:
    """One line about an iteration."""
    values = dict(flatten(result))
    row = {name: values.get(path, float("nan")) for name, path in COLUMNS.items()}
    line = (
        f"iter {row['iteration']:4.0f} | accuracy {row['accuracy']:.3f} | "
        f"reward {row['reward']:.3f} | entropy {row['entropy']:.3f} | "
        f"SFPO {'on ' if row['sfpo_active'] == 1 else 'off'} | {row['tokens_per_s']:6.0f} tok/s | "
        f"sample {row['sample_s']:.2f} s, learn {row['learn_s']:.2f} s, "
        f"sync {row['sync_weights_s']:.2f} s"
    )
    if COLUMNS["heldout_accuracy"] in values:
        line += f" | held-out {row['heldout_accuracy']:.3f}"
    return line


class RunReport:
    """Writes progress.csv, TensorBoard events and accuracy.png into a folder."""

    def __init__(self, folder: str | Path) -> None:
        """Opens the files; `folder` is made if it does not exist."""
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self._folder / "progress.csv", "w", newline="")  # noqa: SIM115
        self._csv = csv.DictWriter(self._file, fieldnames=list(COLUMNS))
        self._csv.writeheader()
        self._tensorboard = SummaryWriter(str(self._folder))
        self._rows: list[dict[str, float]] = []

    def add_heldout(self, rollouts: int, accuracy: float) -> None:
        """Adds a held-out accuracy measured outside of an iteration, e.g. before the first."""
        self._add({"iteration": 0, "rollouts": rollouts, "heldout_accuracy": accuracy})

    def add(self, result: Mapping[str, Any]) -> None:
        """Adds the result of an iteration."""
        values = dict(flatten(result))
        self._add({name: values[path] for name, path in COLUMNS.items() if path in values})
        for path, value in values.items():
            if math.isfinite(value):
                self._tensorboard.add_scalar(path, value, int(values["training_iteration"]))

    def _add(self, row: dict[str, float]) -> None:
        self._rows.append(row)
        self._csv.writerow(row)
        self._file.flush()

    def plot(self, title: str) -> Path:
        """Plots accuracy over rollouts, in training and on held-out problems."""
        figure, axes = plt.subplots(figsize=(8, 4.5))
        train = [(r["rollouts"], r["accuracy"]) for r in self._rows if "accuracy" in r]
        held = [
            (r["rollouts"], r["heldout_accuracy"]) for r in self._rows if "heldout_accuracy" in r
        ]
        if train:
            axes.plot(*zip(*train, strict=True), color="tab:blue", alpha=0.35, label="each batch")
        if held:
            axes.plot(*zip(*held, strict=True), "o-", color="tab:orange", label="held-out problems")
        axes.set(xlabel="rollouts", ylabel="sampled accuracy (T = 1)", title=title)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        path = self._folder / "accuracy.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
        return path

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._tensorboard.close()
