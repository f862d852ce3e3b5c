"""The benchmarks of PPO with SFPO's update and of its overhead: what they make of their runs."""

import json
import math

import pytest
import torch

pytest.importorskip("ray")

from benchmarks.overhead.memory import cpu_peak_bytes
from benchmarks.rllib_algorithms import runs
from benchmarks.rllib_algorithms.__main__ import parse_args
from benchmarks.rllib_algorithms.plot import LABELS
from benchmarks.rllib_algorithms.runs import VARIANTS, Curve, Run, Settings, make_config
from benchmarks.rllib_algorithms.summary import (
    at_rate,
    best_lr,
    compare,
    cost_to_return,
    first_reached,
    table,
)

SETTINGS = Settings(iterations=3)


def curve(*returns: float, per_iteration: float = 1.0) -> Curve:
    """Returns, and 100 environment steps, `per_iteration` gradient steps and seconds each."""
    count = range(1, len(returns) + 1)
    costs = [per_iteration * i for i in count]
    return {
        "env_steps": [100 * i for i in count],
        "episode_return": list(returns),
        **dict.fromkeys(("gradient_steps", "wall_s", "cpu_s"), costs),
    }


@pytest.mark.parametrize(
    ("target", "index", "env_steps"),
    [(10, 0, 100), (11, 1, 200), (20, 1, 200), (30, 3, 400), (31, None, 400)],
)
def test_first_iteration_with_a_return(target: float, index: int | None, env_steps: int) -> None:
    made = curve(10, 20, 15, 30)
    assert first_reached(made, target) == index
    assert cost_to_return(made, "env_steps", target) == env_steps


def test_best_rate_takes_the_fewest_steps_and_then_returns_most() -> None:
    runs = {
        (0.1, 1): curve(10, 50, 50),
        (0.1, 2): curve(10, 20, 50),
        (0.01, 1): curve(50, 10, 10),
        (0.01, 2): curve(10, 50, 10),  # 150 steps in the mean, 0.1 takes 250
        (0.001, 1): curve(10, 10, 10),
        (0.001, 2): curve(10, 10, 10),
        (0.0001, 1): curve(10, 10, 20),
        (0.0001, 2): curve(10, 10, 10),
    }
    curves = {Run("ppo", lr, seed, SETTINGS): made for (lr, seed), made in runs.items()}
    curves[Run("sfpo", 1.0, 1, SETTINGS)] = curve(50, 50, 50)
    assert best_lr(curves, "ppo", target=50) == 0.01
    assert best_lr(curves, "ppo", target=60) == 0.1  # none gets there
    slow = {run: made for run, made in curves.items() if run.lr < 0.01}
    assert best_lr(slow, "ppo", target=50) == 0.0001


def test_ratios_are_to_plain_ppo_with_the_same_seed() -> None:
    curves = {
        Run("ppo", 0.1, 1, SETTINGS): curve(10, 10, 50),
        Run("ppo", 0.1, 2, SETTINGS): curve(10, 50, 40),
        Run("ppo", 0.1, 3, SETTINGS): curve(10, 10, 10),
        Run("sfpo", 0.2, 3, SETTINGS): curve(50, 50, 50, per_iteration=4),
        Run("sfpo", 0.2, 1, SETTINGS): curve(10, 50, 60, per_iteration=4),
        Run("sfpo", 0.2, 2, SETTINGS): curve(10, 50, 70, per_iteration=4),
        Run("sfpo", 0.9, 1, SETTINGS): curve(0, 0, 0),  # not asked for
    }
    summary = compare(curves, {"ppo": 0.1, "sfpo": 0.2}, target=50)
    plain, sfpo = summary["ppo"], summary["sfpo"]
    assert (plain["num_reached"], sfpo["num_reached"]) == (2, 3)
    assert plain["num_runs"] == sfpo["num_runs"] == 3
    assert plain["env_steps"]["values"] == [300, 200, 300]  # the last never gets there
    assert sfpo["env_steps"]["values"] == [200, 200, 100]
    assert (plain["env_steps"]["median"], sfpo["env_steps"]["median"]) == (300, 200)
    assert (plain["final_return"]["median"], sfpo["final_return"]["median"]) == (40, 60)
    assert sfpo["ratio"]["env_steps"]["values"] == pytest.approx([2 / 3, 1, 1 / 3], abs=1e-4)
    assert sfpo["ratio"]["env_steps"]["median"] == pytest.approx(2 / 3, abs=1e-4)
    low, high = sfpo["ratio"]["env_steps"]["interval"]
    assert 1 / 3 - 1e-4 <= low <= 2 / 3 <= high <= 1
    assert sfpo["ratio"]["gradient_steps"]["median"] == pytest.approx(8 / 3, abs=1e-4)
    assert plain["ratio"]["wall_s"] == {"median": 1, "interval": [1, 1], "values": [1, 1, 1]}
    assert "0.67 [0.33, 1.00]" in table(summary)
    json.dumps(summary, allow_nan=False)


def test_variants_have_to_have_the_same_seeds() -> None:
    curves = {
        Run("ppo", 0.1, 1, SETTINGS): curve(10),
        Run("ppo", 0.1, 2, SETTINGS): curve(10),
        Run("sfpo", 0.1, 1, SETTINGS): curve(10),
    }
    assert list(at_rate(curves, "ppo", 0.1)) == [1, 2]
    with pytest.raises(ValueError, match="zip"):
        compare(curves, {"ppo": 0.1, "sfpo": 0.1}, target=50)


def test_variants_differ_in_nothing_but_the_update() -> None:
    configs = {name: make_config(Run(name, 0.001, 1, SETTINGS)) for name in VARIANTS}
    settings = {name: config.to_dict() for name, config in configs.items()}
    plain, more, sfpo = (settings[name] for name in ("ppo", "ppo_more_epochs", "sfpo"))
    assert {name for name in plain if more[name] != plain[name]} == {"num_epochs"}
    assert more["num_epochs"] == (SETTINGS.fast_steps + 1) * plain["num_epochs"]
    # The rl_module_spec is made anew each time.
    differing = {name for name in plain if str(sfpo[name]) != str(plain[name])}
    assert differing == {"_learner_class", "learner_config_dict"}
    assert configs["sfpo"].learner_config_dict["sfpo"]["alpha"] == SETTINGS.alpha
    assert set(LABELS) == set(VARIANTS)


def test_seeds_that_chose_the_rates_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_args(["--smoke", "--lrs", "0.1"]).lrs == [0.1]
    assert parse_args(["--smoke"]).output != parse_args([]).output
    with pytest.raises(SystemExit):
        parse_args(["--seeds", "1", "101"])
    assert "--seeds" in capsys.readouterr().err


def test_peak_memory_counts_what_lives_at_once() -> None:
    def body() -> None:
        kept = torch.empty(1 << 20, dtype=torch.uint8)
        torch.empty(1 << 22, dtype=torch.uint8)  # gone at once
        another = torch.empty(1 << 21, dtype=torch.uint8)
        del kept, another
        torch.empty(1 << 21, dtype=torch.uint8)

    assert cpu_peak_bytes(body) == (1 << 20) + (1 << 22)


def test_a_batch_in_which_no_episode_ends_has_the_return_before_it() -> None:
    curve = {"episode_return": [12.5]}
    assert runs._latest(curve, math.nan) == 12.5
    assert runs._latest(curve, 20.004) == 20.0
    assert runs._latest({"episode_return": []}, math.nan) == 0.0
