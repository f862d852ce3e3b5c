"""`sfpo-rllib train` with Ray: a run, the same call again, a longer one, an interrupted one."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")


from sfpo_rllib.commands import train
from sfpo_rllib.reporting import iteration_line

pytestmark = pytest.mark.usefixtures("ray_cluster")

Call = Callable[..., Any]


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> Path:
    path = tmp_path / "sums.yaml"
    settings = {
        "env": "sfpo_envs:sfpo/Arithmetic-v0",
        "model_config": {"model": str(tiny_model)},
        "num_env_runners": 0,
        "rollout_engine": "transformers",
        "sampling": {"max_tokens": 4},
        "train_batch_size_per_learner": 8,
        "group_size": 4,
        "evaluation_interval": 2,
        "evaluation_duration": 4,
        "evaluation_config": {"env_config": {"split": "test"}},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def test_the_same_call_again_goes_on_and_a_run_at_its_end_starts_nothing(
    call: Call, config: Path, tmp_path: Path
) -> None:
    command = ("train", config, "seed=3", "--output", tmp_path / "run", "--iterations")
    first = call(*command, 1)
    assert first.status == 0 and "iter    1  " in first.out and "1 iterations in " in first.out
    assert "held-out accuracy 0.000 -> 0.000" in first.out
    longer = call(*command, 2, "--json")
    result = json.loads(longer.out)  # and nothing else on stdout
    assert (result["iterations"], result["resumed_from"]) == (2, 1)
    assert result["last"]["iteration"] == 2 and "heldout_accuracy" in result["last"]
    assert result["checkpoint"] == str(tmp_path / "run" / "checkpoint_000002")
    assert "iter    2  " in longer.err
    done = call(*command, 2)
    assert done.status == 0 and "nothing to do: the run has its 2 iterations" in done.out
    other = call("train", config, "seed=4", "--output", tmp_path / "run", "--iterations", 2)
    assert other.line.endswith("it holds a run of other settings: seed=4: must be 3")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_stop_ends_with_the_signals_exit_code(
    call: Call,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signum: signal.Signals,
) -> None:
    def stop(result: dict[str, Any]) -> str:
        signal.raise_signal(signum)
        return iteration_line(result)

    monkeypatch.setattr(train, "iteration_line", stop)
    called = call("train", config, "--output", tmp_path / "run", "--iterations", 5)
    assert called.status == 128 + signum
    assert "stopped, iteration 1 of 5 saved in" in called.err
