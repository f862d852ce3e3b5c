"""Update rules on RLlib's own algorithms: PPO on CartPole, no language model."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

pytest.importorskip("ray")

from own_rules import HeavyBall
from probes import greatest_difference
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import ALL_MODULES
from ray.tune.search.variant_generator import generate_variants

from sfpo_rllib import with_sfpo, with_update_rule
from sfpo_rllib.algorithms.with_update_rule import UpdateRuleLearnerMixin
from sfpo_rllib.core import (
    UPDATE_RULES,
    Extrapolated,
    MultiEpoch,
    SlowFast,
    SlowFastGated,
    SlowFastReplay,
    UpdateRule,
    make_update_rule,
)

Running = Callable[[Algorithm], Algorithm]

PASSES = {"single": 1, "multi_epoch": 4, "slow_fast": 4, "lookahead": 3, "extrapolated": 3}
WITHOUT_HISTORY = [name for name in UPDATE_RULES if make_update_rule(name).history == 0]


def ppo() -> PPOConfig:
    """Two mini-batches of whole episodes cut at 128 steps, in one process."""
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .rl_module(model_config={"fcnet_hiddens": [16], "vf_share_layers": False})
        .training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=1)
        .debugging(seed=0)
    )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """An entry for each optimizer step."""
    taken: list[None] = []
    step = torch.optim.Adam.step

    def counted_step(optimizer: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        taken.append(None)
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", counted_step)
    return taken


def learner_of(algo: Algorithm) -> UpdateRuleLearnerMixin:
    return algo.learner_group._learner


def weights_of(algo: Algorithm) -> dict[str, torch.Tensor]:
    module = learner_of(algo).module[DEFAULT_MODULE_ID].unwrapped()
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def trained_minibatches(
    result: dict[str, Any], steps: list[None], num_passes: int, *, rule_moves: bool = False
) -> int:
    """How many mini-batches these steps were taken on."""
    count, rest = divmod(len(steps), num_passes)
    assert rest == 0
    assert count >= 2  # RLlib may need one more than 128 / 64
    is_active = num_passes > 1 or rule_moves
    assert result["learners"][ALL_MODULES]["sfpo"]["active"] == is_active
    return count


@pytest.mark.parametrize("name", WITHOUT_HISTORY)
def test_every_rule_without_a_history_trains_by_its_passes(
    running: Running, steps: list[None], name: str
) -> None:
    running(ppo().build_algo()).train()
    num_minibatches = len(steps)
    steps.clear()
    algo = running(with_update_rule(ppo(), name).build_algo())
    before = weights_of(algo)
    result = algo.train()

    assert trained_minibatches(result, steps, PASSES[name]) == num_minibatches
    measured = result["learners"][ALL_MODULES]["sfpo"]
    assert measured.keys() == {"active", *UPDATE_RULES[name].metric_names}
    assert measured.get("displacement_norm", 1.0) > 0
    assert greatest_difference(before, weights_of(algo)) > 1e-5


@pytest.mark.parametrize("rule", ["slow_fast_replay", SlowFastReplay(num_batches=2)], ids=str)
def test_a_rule_with_a_history_is_refused_by_name(rule: str | UpdateRule) -> None:
    with pytest.raises(ValueError) as caught:
        with_update_rule(ppo(), rule)
    assert str(caught.value).startswith("update_rule='slow_fast_replay': keeps ")
    assert "GRPOConfig does" in str(caught.value)
    assert str(caught.value).endswith(f"one of {WITHOUT_HISTORY}")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            SlowFast(fast_minibatches=8, slow_minibatches=1),
            r"^fast_minibatches=8: must be left out, as a pass is one .*\nslow_minibatches=1: must",
        ),
        (
            SlowFastGated(2),
            r"^update_rule=SlowFastGated\(.*: looks at head_grad_norm of its passes",
        ),
        (Extrapolated(fast_fraction=0.5), r"^fast_fraction=0.5: must be left out, as a pass is"),
        ("slow_fst", r"^update_rule='slow_fst': must be .* did you mean 'slow_fast'\?"),
        (None, r"^update_rule=None: must be an UpdateRule or one of"),
        (SlowFast, r"^update_rule=<class .*SlowFast'>: must be an UpdateRule or one of"),
    ],
)
def test_what_is_no_rule_here_is_refused(rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_update_rule(ppo(), rule)


# Settings.

TRIGGER = {"entropy_window": None, "entropy_z_threshold": 1.0}


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("single", {"update_rule": "single"}),
        (MultiEpoch(2), {"update_rule": "multi_epoch", "epochs": 2}),
        (Extrapolated(7, 0.5), {"update_rule": "extrapolated", "fast_steps": 7, "alpha": 0.5}),
    ],
    ids=str,
)
def test_settings_of_our_rules_are_in_the_learner_config_by_name(
    rule: str | UpdateRule, settings: dict[str, Any]
) -> None:
    config = with_update_rule(ppo().learners(learner_config_dict={"mine": 1}), rule)
    assert config.learner_config_dict == {"mine": 1, "sfpo": {**settings, **TRIGGER}}


def test_with_sfpo_is_the_rule_slow_fast() -> None:
    sfpo = with_sfpo(ppo(), fast_steps=2, reposition_alpha=0.5, entropy_window=9)
    rule = with_update_rule(ppo(), SlowFast(2, 0.5), entropy_window=9)
    assert sfpo.learner_config_dict == rule.learner_config_dict


def trials(config: AlgorithmConfig, **settings: Any) -> list[AlgorithmConfig]:
    """The configs that Tune makes of one whose rule has such settings."""
    space = config.to_dict()
    space["learner_config_dict"] = {
        "sfpo": {**config.learner_config_dict["sfpo"], **settings},
    }
    return [PPOConfig().update_from_dict(spec) for _, spec in generate_variants(space)]


def test_a_setting_that_tune_changes_takes_effect(running: Running, steps: list[None]) -> None:
    config = with_update_rule(ppo(), "multi_epoch")
    one, three = trials(config, epochs=tune.grid_search([1, 3]))
    counts = []
    for trial, num_passes in ((one, 1), (three, 3)):
        steps.clear()
        result = running(trial.build_algo()).train()
        counts.append(trained_minibatches(result, steps, num_passes))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, r"alpha=1\.5: must be"),
        ({"epochs": 3}, "epochs=3: 'slow_fast' has only"),
        ({"update_rule": "slow_fast_replay"}, "update_rule='slow_fast_replay': keeps 5 earlier"),
        ({"entropy_window": 1}, "entropy_window=1: must be"),
        ({"entropy_warmup": -1}, "entropy_warmup=-1: must be"),
        ({"entropy_patience": 0}, "entropy_patience=0: must be"),
    ],
)
def test_settings_that_tune_makes_wrong_are_refused_at_the_start(
    ray_cluster: None, settings: dict[str, Any], message: str
) -> None:
    (trial,) = trials(with_update_rule(ppo(), "slow_fast"), **settings)
    with pytest.raises(ValueError, match=message):
        trial.build_algo()


# The trigger.


def test_a_mini_batch_of_which_nothing_counts_tells_the_trigger_nothing_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_update_rule(ppo(), "single", entropy_window=2, entropy_z_threshold=-10.0)
    learner = config.build_learner(env=gym.make("CartPole-v1"))
    outputs = {DEFAULT_MODULE_ID: {Columns.ACTION_DIST_INPUTS: torch.zeros(3, 2)}}
    monkeypatch.setattr(PPOTorchLearner, "_update", lambda *_, **__: (outputs, {}, {}))
    batch = {DEFAULT_MODULE_ID: {Columns.LOSS_MASK: torch.zeros(3, dtype=torch.bool)}}
    assert math.isnan(learner._mean_entropy(batch, outputs))
    for _ in range(3):
        learner._update(batch)
    assert learner._updater.trigger.state_dict()["entropies"] == []
    assert not learner._updater.fired


def test_modules_without_a_distribution_are_refused_and_those_beside_a_policy_left_out() -> None:
    config = with_update_rule(ppo(), "single", entropy_window=7)
    learner = config.build_learner(env=gym.make("CartPole-v1"))
    policy = {Columns.ACTION_DIST_INPUTS: torch.zeros(3, 2)}
    with pytest.raises(ValueError, match=r"^entropy_window=7: must be None, as"):
        learner._mean_entropy({DEFAULT_MODULE_ID: {}}, {DEFAULT_MODULE_ID: {"other": 1}})
    learner.module.add_module("curiosity", learner.module[DEFAULT_MODULE_ID])
    outputs = {DEFAULT_MODULE_ID: policy, "curiosity": {"other": 1}}
    entropy = learner._mean_entropy({DEFAULT_MODULE_ID: {}, "curiosity": {}}, outputs)
    assert entropy == pytest.approx(math.log(2))


# Rules of one's own.


def velocity_of(rule: Any) -> list[torch.Tensor]:
    assert isinstance(rule, HeavyBall)
    return rule.velocity


def test_the_state_of_an_own_rule_survives_a_checkpoint(
    running: Running, steps: list[None], tmp_path: Path
) -> None:
    own = HeavyBall(0.5)
    config = with_update_rule(ppo(), own)
    assert config.learner_config_dict["sfpo"] == {"update_rule": own, **TRIGGER}
    algo = running(config.build_algo())
    result = algo.train()
    trained_minibatches(result, steps, num_passes=1, rule_moves=True)
    assert result["learners"][ALL_MODULES]["sfpo"]["velocity_norm"] > 0

    checkpoint = algo.save_to_path(tmp_path / "checkpoint")
    restored = running(Algorithm.from_checkpoint(checkpoint))
    velocity, other = (velocity_of(learner_of(a)._updater.rule) for a in (algo, restored))
    assert len(velocity) > 1
    assert [v.tolist() for v in velocity] == [v.tolist() for v in other]
    assert any(v.any() for v in velocity)
    # The learners have rules of their own.
    assert velocity_of(own) == velocity_of(config.learner_config_dict["sfpo"]["update_rule"]) == []
    restored.train()
    assert velocity[0].tolist() != velocity_of(learner_of(restored)._updater.rule)[0].tolist()
