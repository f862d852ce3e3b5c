"""The objective's settings in training: losses, reference, bonus, dropped groups, bad gradients."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray")

from own_objectives import NotFinite, over_the_mean_of_all, positive_only
from probes import ECHO, assert_equal_weights, greatest_difference, sfpo_results
from ray.rllib.core import DEFAULT_MODULE_ID

from sfpo_rllib import GRPO, GRPOConfig, SFPOConfig
from sfpo_rllib.core import LOSSES
from sfpo_rllib.core.importance import ENGINE_CORRECTIONS
from sfpo_rllib.rl_modules import CausalLMModule

MakeConfig = Callable[..., GRPOConfig]
Running = Callable[[GRPO], GRPO]


@pytest.fixture
def build(make_config: MakeConfig, running: Running) -> Callable[..., GRPO]:
    """`build(loss=..., ...)`: SFPO, or the class given, with these training settings."""

    def make(
        config_class: type[GRPOConfig] = SFPOConfig, equal_rewards_every: int = 0, **training
    ) -> GRPO:
        env_config = {"equal_rewards_every": equal_rewards_every}
        config = make_config(config_class, env=ECHO, env_config=env_config)
        return running(config.training(**training).build_algo())

    return make


def module_of(algo: GRPO) -> CausalLMModule:
    return algo.learner_group._learner.module[DEFAULT_MODULE_ID].unwrapped()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains(build, name):
    algo = build(loss=name, lr=1e-2)
    before = algo.get_module_weights()
    result = sfpo_results(algo.train())
    assert result["optimizer_steps_lifetime"] == 4
    assert result["skipped_steps_lifetime"] == 0
    assert result["pass_1"]["kl_to_start"] > 0
    assert greatest_difference(before, algo.get_module_weights()) > 1e-4


@pytest.mark.parametrize("correction", [None, *ENGINE_CORRECTIONS])
def test_the_engines_mismatch_is_measured_under_every_correction(build, correction):
    result = sfpo_results(build(GRPOConfig, engine_correction=correction).train())
    assert 0 <= result["engine_logp_diff"] <= result["engine_logp_diff_max"] < 1e-4
    assert result["engine_ess"] == pytest.approx(1, abs=1e-6)
    assert result["engine_ratio"] == pytest.approx(1, abs=1e-4)
    assert result["engine_beyond_bounds"] == 0


def test_an_own_loss_and_advantage_train_and_their_metrics_are_reported(build):
    algo = build(GRPOConfig, loss=positive_only, advantages=over_the_mean_of_all)
    before = algo.get_module_weights()
    result = sfpo_results(algo.train())["pass_0"]
    assert 0 < result["good_tokens"] < 1
    assert 0 < result["greatest_advantage_max"] < 1
    assert greatest_difference(before, algo.get_module_weights()) > 1e-5


# The reference.


def test_the_reference_is_the_model_that_training_began_with_across_a_checkpoint(build, tmp_path):
    algo = build(kl_coeff=0.01, lr=1e-2)
    start = algo.get_module_weights()
    first = sfpo_results(algo.train())
    assert first["pass_0"]["kl_to_reference"] == pytest.approx(0, abs=1e-6)
    assert first["pass_3"]["kl_to_reference"] > 1e-5
    assert_equal_weights(dict(module_of(algo).reference.state_dict()), start)
    assert algo.get_module_weights().keys() == start.keys()  # none of its weights are the policy's

    checkpoint = algo.save_to_path(tmp_path / "checkpoint")
    second = sfpo_results(algo.train())
    restored = type(algo).from_checkpoint(checkpoint)
    again = sfpo_results(restored.train())
    restored.stop()
    assert second["pass_0"]["kl_to_reference"] > 1e-5
    for k in range(4):
        assert again[f"pass_{k}"] == second[f"pass_{k}"]


def test_no_reference_is_held_without_a_kl_coefficient(build):
    algo = build()
    assert module_of(algo).reference is None
    assert "kl_to_reference" not in sfpo_results(algo.train())["pass_0"]


def test_a_kl_term_holds_the_policy_near_the_reference(build):
    distances = []
    for kl_coeff in (0.0001, 10.0):
        algo = build(kl_coeff=kl_coeff, kl_estimator="k2", lr=1e-2, grad_clip=None)
        for _ in range(3):
            result = sfpo_results(algo.train())
        distances.append(result["pass_3"]["kl_to_reference"])
    assert distances[1] < 0.5 * distances[0]


def test_a_module_without_a_reference_is_refused_a_kl_coefficient(build, monkeypatch):
    monkeypatch.delattr(CausalLMModule, "reference_logp")
    with pytest.raises(ValueError, match=r"kl_coeff=0.1: must be 0 with CausalLMModule"):
        build(kl_coeff=0.1)


def test_an_entropy_bonus_raises_the_entropy(build):
    algo = build(entropy_coeff=10.0, lr=1e-2)
    result = sfpo_results(algo.train())
    assert result["pass_3"]["entropy"] > result["pass_0"]["entropy"] + 1e-4


# Groups of equal rewards.


def test_dropped_groups_do_not_count_in_the_normaliser(build):
    kept, dropped = (
        sfpo_results(
            build(
                GRPOConfig, equal_rewards_every=2, equal_reward_groups=how, grad_clip=None
            ).train()
        )["pass_0"]
        for how in ("keep", "drop")
    )
    # Every reply has 4 tokens at most and EOS is rare, so that half of the tokens count.
    assert dropped["grad_norm"] == pytest.approx(2 * kept["grad_norm"], rel=0.1)
    assert dropped["grad_norm"] > 1.5 * kept["grad_norm"]


def test_a_batch_of_dropped_groups_leaves_everything_as_it_was(build):
    algo = build(
        equal_rewards_every=1,
        equal_reward_groups="drop",
        minibatch_size=4,
        entropy_window=2,
        entropy_z_threshold=0.5,
        kl_coeff=0.1,
    )
    before = algo.get_module_weights()
    for _ in range(2):
        result = sfpo_results(algo.train())
        assert result["optimizer_steps_lifetime"] == 0
        assert result["pass_0"]["loss"] == result["displacement_norm"] == 0
        assert math.isnan(result["entropy"]) and math.isnan(result["entropy_z"])
    assert_equal_weights(before, algo.get_module_weights())


def test_minibatches_without_a_token_that_counts_take_no_step(build):
    algo = build(equal_rewards_every=2, equal_reward_groups="drop", minibatch_size=1)
    result = sfpo_results(algo.train())
    assert result["optimizer_steps_lifetime"] == 4 * 8  # 2 of 4 groups, of 4, in each pass
    assert all(math.isfinite(value) for value in result["pass_3"].values())


# Gradients that are not finite.


def test_a_step_of_a_bad_gradient_is_skipped_and_counted(build, tmp_path):
    algo = build(GRPOConfig, loss=NotFinite(True, False, True), minibatch_size=4)
    before = algo.get_module_weights()
    result = sfpo_results(algo.train())
    assert result["skipped_steps_lifetime"] == 2
    assert result["optimizer_steps_lifetime"] == 2
    assert math.isnan(result["pass_0"]["grad_norm"]), "what happened is not hidden"
    after = algo.get_module_weights()
    assert 0 < greatest_difference(before, after) < 1
    assert all(torch.isfinite(weight).all() for weight in after.values())
    restored = build(GRPOConfig, minibatch_size=4)
    restored.set_state(algo.get_state())
    assert sfpo_results(restored.train())["skipped_steps_lifetime"] == 2


def test_too_many_bad_gradients_in_a_row_end_training_where_the_batch_began(
    build, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    algo = build(loss=NotFinite(False, then=True), max_skipped_steps=2)
    before = algo.get_module_weights()
    with pytest.raises(FloatingPointError, match="max_skipped_steps=2: 3 optimizer steps") as error:
        algo.train()
    assert_equal_weights(before, algo.get_module_weights())  # the good first step is taken back
    saved = torch.load(Path(re.search(r"saved in (\S+)$", str(error.value))[1]))
    columns = saved["batch"][0]
    assert columns["input_ids"].shape == columns["start_logp"].shape
    assert any("embed_tokens" in name for name in saved["parameters"])
