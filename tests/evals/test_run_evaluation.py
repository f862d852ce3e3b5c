"""A run's own evaluation, made again of its checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from probes import ECHO

from sfpo_rllib import run
from sfpo_rllib.evals import evaluate, find_models

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_checkpoint_has_the_accuracy_that_its_run_measured(
    make_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = make_config(env=ECHO)
    config.training(lr=1e-2).env_runners(sampling={"max_tokens": 2})
    config.evaluation(evaluation_interval=1, evaluation_duration=256)
    config.evaluation(evaluation_config={"group_size": 4})
    done = run(config, tmp_path / "run", iterations=3, checkpoint_every=1, on_result=None)
    measured = {int(row["iteration"]): row["heldout_accuracy"] for row in done.rows}
    results = evaluate(
        find_models(tmp_path / "run", checkpoint="all"),
        output=tmp_path / "out",
        engine="transformers",
        seed=1,
    )
    assert [result.reported for result in results] == [measured[2], measured[3]]
    assert len({*measured.values()}) > 1  # it was trained
    for result in results:
        own = result.scores["own"].numbers["avg@4"]
        assert own.low < result.reported < own.high
        assert result.settings.samples == 4 and not result.settings.is_greedy


def test_a_greedy_evaluation_of_a_run_comes_again_to_the_digit(
    make_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = make_config(env=ECHO).training(lr=1e-2)
    config.env_runners(sampling={"max_tokens": 2})
    config.evaluation(evaluation_interval=1, evaluation_duration=24)
    config.evaluation(evaluation_config={"explore": False, "sampling": {"top_p": 0.5}})
    run(config, tmp_path / "run", iterations=1, on_result=None)
    (result,) = evaluate(
        find_models(tmp_path / "run"), output=tmp_path / "out", engine="transformers"
    )
    assert result.settings.samples == 1 and result.settings.is_greedy
    assert result.scores["own"].counts["num_problems"] == 24
    assert result.scores["own"].numbers["avg@1"].value == result.reported
