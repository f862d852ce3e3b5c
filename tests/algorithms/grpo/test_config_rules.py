"""Update rules and presets of a config."""

import pytest
from ray import tune
from refusals import one_problem, problems_of

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.core import (
    UPDATE_RULES,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    make_update_rule,
)

pytestmark = pytest.mark.usefixtures("nothing_heavy")


# Update rules.


@pytest.mark.parametrize("rule", [*UPDATE_RULES, SlowFastReplay(num_batches=2)], ids=str)
def test_grpo_takes_every_rule_by_name_and_as_an_instance(make_config, rule):
    config = make_config(GRPOConfig).training(update_rule=rule, entropy_z_threshold=1.0)
    config.validate()
    assert config.make_update_rule() == make_update_rule(rule)


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        ("slow_fst", "did you mean 'slow_fast'?"),
        ("SlowFast", "'slow_fast_replay'"),
        (None, "must be an UpdateRule or one of"),
        (SlowFast, "must be an UpdateRule or one of"),
    ],
)
def test_what_is_no_rule_is_refused(make_config, rule, right):
    config = make_config(GRPOConfig).training(update_rule=rule)
    one_problem(config, "update_rule", rule, "must be an UpdateRule or one of", right)


@pytest.mark.parametrize("rule", ["single", "slow_fast_replay", "slow_fst", SlowFast(2)], ids=str)
def test_sfpo_takes_no_other_rule(good, rule):
    one_problem(good.training(update_rule=rule), "update_rule", rule, "GRPOConfig takes any rule")


def test_sfpo_makes_the_rule_of_its_settings(good):
    assert good.make_update_rule() == SlowFast(3, 0.8)
    good.training(fast_steps=5, reposition_alpha=0.25)
    assert good.make_update_rule() == SlowFast(5, 0.25)
    assert GRPOConfig().make_update_rule() == Single()


@pytest.mark.parametrize("field", ["fast_steps", "reposition_alpha"])
def test_grpo_has_no_settings_of_one_rule(make_config, field):
    config = make_config(GRPOConfig)
    with pytest.raises(TypeError, match=field):
        config.training(update_rule="slow_fast", **{field: 1})
    config.update_from_dict({field: 1})
    assert f"{field}=1: no such setting" in problems_of(config)[0]


@pytest.mark.parametrize("rule", ["lookahead", Lookahead(2, 0.5), MultiEpoch(2)], ids=str)
def test_a_rule_goes_through_a_dict(make_config, rule):
    config = make_config(GRPOConfig).training(update_rule=rule)
    trial = GRPOConfig().update_from_dict(config.to_dict())
    trial.validate()
    assert trial.make_update_rule() == config.make_update_rule() == make_update_rule(rule)


# Presets.

UPDATE_KEYS = {
    "fast_steps": 3,
    "reposition_alpha": 0.8,
    "entropy_window": 30,
    "entropy_z_threshold": 1.0,
    "grad_clip": 1.0,
}
OTHER_VALUES = {
    "fast_steps": 5,
    "reposition_alpha": 0.1,
    "entropy_window": 7,
    "entropy_z_threshold": None,
    "grad_clip": 9.0,
}


@pytest.mark.parametrize(("preset", "steps_per_pass"), [("paper", 1), ("official_repo", 4)])
def test_a_preset_sets_the_update_keys_whatever_they_were(preset, steps_per_pass):
    config = SFPOConfig().training(**OTHER_VALUES, minibatch_size=7, lr=0.5, group_size=4)
    config.training(preset=preset, train_batch_size_per_learner=2048)
    assert {name: getattr(config, name) for name in UPDATE_KEYS} == UPDATE_KEYS
    assert config.effective_minibatch_size == 2048 / steps_per_pass
    assert (config.lr, config.group_size) == (0.5, 4)


@pytest.mark.parametrize("preset", ["paper", "official_repo"])
@pytest.mark.parametrize("later_call", [False, True])
def test_keys_of_the_same_or_a_later_call_win_over_a_preset(preset, later_call):
    config = SFPOConfig()
    if later_call:
        config.training(preset=preset).training(**OTHER_VALUES, minibatch_size=32)
    else:
        config.training(preset=preset, **OTHER_VALUES, minibatch_size=32)
    assert {name: getattr(config, name) for name in OTHER_VALUES} == OTHER_VALUES
    assert config.effective_minibatch_size == 32


@pytest.mark.parametrize("given", [{"minibatch_size": 8}, {"minibatches_per_pass": 2}])
def test_of_mini_batch_size_and_number_the_one_given_last_counts(good, given):
    good.training(minibatch_size=4).training(minibatches_per_pass=8).training(**given)
    assert good.effective_minibatch_size == 8
    good.validate()
    (name,) = given
    by_dict = SFPOConfig().training(**{"minibatch_size": 4} if name != "minibatch_size" else {})
    assert by_dict.update_from_dict(given).minibatch_size == given.get("minibatch_size")


def test_mini_batch_size_and_number_together_are_refused(good):
    trial = SFPOConfig().update_from_dict(
        {**good.training(minibatch_size=8).to_dict(), "minibatches_per_pass": 1}
    )
    one_problem(trial, "minibatches_per_pass", 1, "must be None with minibatch_size=8")


@pytest.mark.parametrize("preset", ["official_repo", tune.choice(["official_repo"])])
def test_a_mini_batch_size_beside_a_preset_wins_over_its_number(preset):
    config = SFPOConfig().training(preset=preset, minibatch_size=8)
    trial = SFPOConfig().update_from_dict({**config.to_dict(), "preset": "official_repo"})
    by_dict = SFPOConfig().update_from_dict({"preset": "official_repo", "minibatch_size": 8})
    for made in (trial, by_dict):
        assert (made.minibatch_size, made.minibatches_per_pass) == (8, None)


@pytest.mark.parametrize("order", [("preset", "fast_steps"), ("fast_steps", "preset")])
def test_a_preset_of_a_dict_is_applied_and_yields_to_the_keys_beside_it(order):
    values = {"preset": "official_repo", "fast_steps": 5}
    config = SFPOConfig().training(reposition_alpha=0.1, minibatch_size=7)
    config.update_from_dict({name: values[name] for name in order})
    assert (config.fast_steps, config.reposition_alpha) == (5, 0.8)
    assert config.effective_minibatch_size == config.train_batch_size_per_learner // 4


@pytest.mark.parametrize(("drawn", "steps_per_pass"), [("paper", 1), ("official_repo", 4)])
def test_a_preset_that_was_searched_over_is_applied_once_it_is_drawn(drawn, steps_per_pass):
    config = SFPOConfig().training(reposition_alpha=0.1, grad_clip=9.0)
    config.training(preset=tune.choice(["paper", "official_repo"]), fast_steps=5)
    config.training(entropy_window=7)
    trial = SFPOConfig().update_from_dict({**config.to_dict(), "preset": drawn})
    assert (trial.fast_steps, trial.entropy_window) == (5, 7)  # given with it or later
    assert (trial.reposition_alpha, trial.grad_clip) == (0.8, 1.0)  # given before
    assert trial.effective_minibatch_size == trial.train_batch_size_per_learner // steps_per_pass


def test_a_key_changed_after_a_preset_survives_the_way_through_a_dict():
    config = SFPOConfig().training(preset="official_repo").training(fast_steps=5)
    config.minibatches_per_pass = 8
    trial = SFPOConfig().update_from_dict(config.to_dict())
    assert (trial.fast_steps, trial.minibatches_per_pass) == (5, 8)
