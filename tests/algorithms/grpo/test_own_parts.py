"""An engine, an optimizer and an update rule from outside of the package, in one run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from own_parts import CountingEngine, SignDescent
from own_rules import HeavyBall

from sfpo_rllib import GRPO, GRPOConfig
from sfpo_rllib.core.optimizers import optimizer_name


def test_parts_of_ones_own_train_in_remote_runners_and_go_on_from_a_checkpoint(
    make_config: Callable[..., Any], running: Callable[[Any], Any], tmp_path: Path
) -> None:
    # Of a notebook: no other process can import it.
    engine: Any = type("Nameless", (CountingEngine,), {"__module__": "__main__"})
    config = (
        make_config(GRPOConfig)
        .env_runners(num_env_runners=1, rollout_engine=engine, engine_kwargs={"first": 5})
        .training(
            optimizer=SignDescent,
            optimizer_kwargs={"decay": 0.25},
            update_rule=HeavyBall(0.25),
            engine_correction=None,
            max_engine_logp_diff=None,  # the replies are not the policy's
            advantages=lambda rewards: torch.ones_like(rewards),
            kl_coeff=0.0,
        )
    )
    algo = running(config.build_algo())
    result = algo.train()
    assert result["env_runners"]["completion_length_mean"] == 2.0
    assert result["learners"]["default_policy"]["sfpo"]["velocity_norm"] > 0
    (optimizer,) = algo.learner_group._learner._named_optimizers.values()
    assert type(optimizer) is SignDescent
    assert optimizer.param_groups[0]["decay"] == 0.25 and optimizer.param_groups[0]["lr"] == 1e-3

    other = running(GRPO.from_checkpoint(algo.save_to_path(tmp_path / "checkpoint")))
    assert other.config.rollout_engine.__name__ == engine.__name__
    assert optimizer_name(other.config.optimizer) == "SignDescent"
    for each in (algo, other):
        each.train()
    weights = other.get_module_weights()
    assert all(torch.equal(weights[n], w) for n, w in algo.get_module_weights().items())


def test_the_state_of_another_optimizer_is_refused_by_name(
    make_config: Callable[..., Any], running: Callable[[Any], Any], tmp_path: Path
) -> None:
    config = make_config(GRPOConfig).env_runners(
        rollout_engine=CountingEngine, engine_kwargs={"first": 5}
    )
    saved = running(config.build_algo()).save_to_path(tmp_path / "checkpoint")
    other = running(config.copy(copy_frozen=False).training(optimizer=SignDescent).build_algo())
    with pytest.raises(ValueError, match="optimizer='SignDescent': must be 'adamw'"):
        other.restore_from_path(saved)
