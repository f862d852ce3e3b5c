"""The plot of accuracies: what is drawn."""

from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

from sfpo_rllib.accuracy_plot import Curve, half_interval, plot_accuracy, running_mean

ROWS = [
    {"rollouts": 0.0, "heldout_accuracy": 0.2},
    {"rollouts": 16.0, "accuracy": 0.25},
    {"rollouts": 32.0, "accuracy": 0.75, "heldout_accuracy": 0.4},
]


def test_running_mean_is_of_the_last_values() -> None:
    assert running_mean(np.array([1.0, 3.0, 8.0, 1.0]), window=2).tolist() == [1.0, 2.0, 5.5, 4.5]
    assert running_mean(np.array([])).tolist() == []


def test_interval_covers_a_simulated_accuracy_of_several_samples_a_problem() -> None:
    rng = np.random.default_rng(0)
    chances = rng.beta(1.0, 1.0, size=(2000, 100))  # a problem's own chance, 8 samples of each
    accuracies = rng.binomial(8, chances).mean(axis=1) / 8
    covered = np.abs(accuracies - 0.5) <= half_interval(accuracies, 100)
    assert covered.mean() >= 0.95


def test_plot_shows_every_run_with_its_end_and_error_bars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, path, **how: figures.append(self)
    )
    curves = [Curve("SFPO", ROWS), Curve("GRPO", ROWS[:1]), Curve("nothing yet", [])]
    plot_accuracy(curves, tmp_path / "plot.png", "title", num_problems=100)
    (axes,) = figures[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["SFPO, 0.400 at the end", "GRPO, 0.200 at the end", "nothing yet"]
    assert axes.lines[0].get_ydata().tolist() == [0.25, 0.5]
    assert sum(container.has_yerr for container in axes.containers) == 3


def test_plot_is_a_picture(tmp_path: Path) -> None:
    path = plot_accuracy([Curve("SFPO", ROWS)], tmp_path / "plot.png", "title")
    assert path.read_bytes().startswith(b"\x89PNG")
