"""GRPO by every update rule: passes and steps, history and state across checkpoints, own rules."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from own_rules import HeavyBall, HonestlyNudged, Nudged
from probes import ECHO, assert_equal_weights, greatest_difference, sfpo_results, train

from sfpo_rllib import GRPO, GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import START_LOGP, GRPOTorchLearner
from sfpo_rllib.core import (
    UPDATE_RULES,
    MultiEpoch,
    SlowFast,
    SlowFastReplay,
    UpdateRule,
    make_update_rule,
)
from sfpo_rllib.rl_modules.causal_lm import BEHAVIOUR_LOGP, INPUT_IDS, LOSS_MASK

Build = Callable[..., GRPO]

REPLAY = SlowFastReplay(fast_steps=2, alpha=0.5, num_batches=3)


@pytest.fixture
def grpo_config(make_config: Callable[..., GRPOConfig]) -> Callable[..., GRPOConfig]:
    """`grpo_config(update_rule=..., ...)`: of GRPO with these training settings."""

    def make(**training: Any) -> GRPOConfig:
        return make_config(GRPOConfig, env=ECHO).training(**training)

    return make


@pytest.fixture
def build(grpo_config: Callable[..., GRPOConfig], running: Callable[[GRPO], GRPO]) -> Build:
    """`build(update_rule=..., ...)`: GRPO with these training settings."""
    return lambda **training: running(grpo_config(**training).build_algo())


def learner_of(algo: GRPO) -> GRPOTorchLearner:
    return algo.learner_group._learner


def num_passes(result: dict[str, Any]) -> int:
    """Those of this iteration; RLlib goes on reporting earlier ones as NaN."""
    passes = [v for name, v in sfpo_results(result).items() if name.startswith("pass_")]
    assert all(math.isnan(p["loss"]) == math.isnan(p["grad_norm"]) for p in passes)
    return sum(not math.isnan(p["loss"]) for p in passes)


# Every rule.

PASSES = {  # of the first three batches
    "single": [1, 1, 1],
    "multi_epoch": [4, 4, 4],
    "slow_fast": [4, 4, 4],
    "lookahead": [3, 3, 3],
    "extrapolated": [3, 3, 3],
    "slow_fast_replay": [4, 5, 6],
}


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_every_rule_trains_by_its_passes(build: Build, name: str) -> None:
    algo = build(update_rule=name, minibatches_per_pass=2)
    start = algo.get_module_weights()
    _, results = train(algo, 3)

    assert [num_passes(result) for result in results] == PASSES[name]
    steps = [sfpo_results(result)["optimizer_steps_lifetime"] for result in results]
    assert steps == [2 * sum(PASSES[name][: i + 1]) for i in range(3)]
    last = sfpo_results(results[-1])
    assert last["active"] == (name != "single")
    assert all(last[metric] > 0 for metric in UPDATE_RULES[name].metric_names)
    assert last["entropy"] == last[f"pass_{PASSES[name][-1] - 1}"]["entropy"]
    assert last["engine_logp_diff"] < 1e-5
    assert greatest_difference(start, algo.get_module_weights()) > 1e-4


def test_a_fast_pass_in_mini_batches_and_a_slow_one_without_train_and_go_on_from_a_checkpoint(
    grpo_config: Callable[..., GRPOConfig], running: Callable[[GRPO], GRPO], tmp_path: Path
) -> None:
    rule = SlowFast(2, 0.3, fast_minibatches=4, fast_fraction=0.5, slow_minibatches=1)
    first = running(grpo_config(update_rule=rule, minibatches_per_pass=2).build_algo())
    _, results = train(first, 2)
    assert [sfpo_results(r)["optimizer_steps_lifetime"] for r in results] == [2 * 4 + 1, 18]
    assert sfpo_results(results[-1])["pass_1"]["kl_to_start"] > 0
    second = running(GRPO.from_checkpoint(first.save_to_path(tmp_path / "checkpoint")))
    for algo in (first, second):
        train(algo, 1)
    assert_equal_weights(first.get_module_weights(), second.get_module_weights())


@pytest.mark.parametrize(
    ("rule", "same"),
    [
        (SlowFast(alpha=0.0), "single"),
        (SlowFast(fast_steps=3, alpha=1.0), MultiEpoch(4)),
        (SlowFastReplay(alpha=0.0, num_batches=3), "single"),
        (SlowFastReplay(alpha=0.8, num_batches=1), "slow_fast"),
    ],
    ids=str,
)
@pytest.mark.parametrize("minibatch_size", [None, 4])
def test_two_rules_are_bitwise_the_same(
    build: Build, rule: UpdateRule, same: str | UpdateRule, minibatch_size: int | None
) -> None:
    weights = []
    for update_rule in (rule, same):
        algo = build(update_rule=update_rule, minibatch_size=minibatch_size)
        train(algo, 2)
        weights.append(algo.get_module_weights())
    assert_equal_weights(*weights)


def test_sfpo_is_grpo_by_slow_fast(
    build: Build, make_config: Callable[..., SFPOConfig], running: Callable[[GRPO], GRPO]
) -> None:
    settings = {"minibatch_size": 8, "entropy_window": 3, "entropy_z_threshold": -10}
    config = make_config(env=ECHO).training(fast_steps=2, reposition_alpha=0.5, **settings)
    sfpo = running(config.build_algo())
    grpo = build(update_rule=SlowFast(fast_steps=2, alpha=0.5), **settings)
    results = [[sfpo_results(result) for result in train(algo, 4)[1]] for algo in (sfpo, grpo)]
    assert {result["active"] for result in results[0]} == {0, 1}
    assert_equal_weights(sfpo.get_module_weights(), grpo.get_module_weights())
    for metric in ("active", "displacement_norm", "optimizer_steps_lifetime"):
        assert [r[metric] for r in results[0]] == [r[metric] for r in results[1]]


@pytest.mark.parametrize("rule", ["multi_epoch", "lookahead", REPLAY], ids=str)
def test_the_trigger_leaves_one_pass_of_any_rule(build: Build, rule: str | UpdateRule) -> None:
    algo = build(update_rule=rule, entropy_window=2, entropy_z_threshold=-10)
    _, results = train(algo, 4)

    assert [sfpo_results(result)["active"] for result in results] == [1, 1, 0, 0]
    passes = [num_passes(result) for result in results]
    assert passes[0] > 1 and passes[1] > 1
    assert passes[2:] == [1, 1]
    assert sfpo_results(results[-1])["optimizer_steps_lifetime"] == sum(passes)
    for metric in make_update_rule(rule).metric_names:
        assert sfpo_results(results[-1])[metric] == 0
    assert learner_of(algo).get_recent_batches() == []


# Replay.


def test_ratios_of_an_old_batch_stay_relative_to_the_policy_it_was_sampled_from(
    build: Build,
) -> None:
    algo = build(update_rule=REPLAY)
    algo.train()
    [[[first]]] = learner_of(algo).get_recent_batches()  # one micro-batch
    start, mask = first[START_LOGP].clone(), first[LOSS_MASK]
    result = sfpo_results(algo.train())

    [[old]], _ = learner_of(algo).get_recent_batches()
    assert torch.equal(old[INPUT_IDS], first[INPUT_IDS])
    assert torch.equal(old[START_LOGP], start)
    torch.testing.assert_close(start[mask], old[BEHAVIOUR_LOGP][mask], rtol=0, atol=1e-5)
    # The walk begins with it, at a policy that is no longer the one it was sampled from.
    assert result["pass_0"]["kl_to_start"] > 1e-4
    assert result["pass_1"]["kl_to_start"] > 1e-4  # nor is the new batch at its own when passed


def history_of(algo: GRPO) -> list[list[torch.Tensor]]:
    """The tokens of each learner's recent batches."""

    def tokens(learner: GRPOTorchLearner) -> list[torch.Tensor]:
        return [
            torch.cat([micro[INPUT_IDS].flatten() for part in batch for micro in part])
            for batch in learner.get_recent_batches()
        ]

    return [result.get() for result in algo.learner_group.foreach_learner(tokens)]


def test_a_restored_run_walks_the_batches_from_before_it(
    grpo_config: Callable[..., GRPOConfig], running: Callable[[GRPO], GRPO], tmp_path: Path
) -> None:
    config = grpo_config(update_rule=REPLAY, minibatch_size=4, max_tokens_per_micro_batch=20)
    first = running(config.build_algo())
    train(first, 2)
    second = running(GRPO.from_checkpoint(first.save_to_path(tmp_path / "checkpoint")))

    [batches], [restored] = history_of(first), history_of(second)
    assert len(batches) == 2
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in restored]

    # The algorithm that was saved has been left alone, so it goes on too.
    for algo in (first, second):
        _, results = train(algo, 2)
        assert [sfpo_results(result)["num_recent_batches"] for result in results] == [2, 2]
    assert_equal_weights(first.get_module_weights(), second.get_module_weights())


def test_a_checkpoint_without_a_history_leaves_none(build: Build, tmp_path: Path) -> None:
    plain, replay = build(update_rule="single"), build(update_rule=REPLAY)
    for algo in (plain, replay):
        algo.train()
    replay.restore_from_path(plain.save_to_path(tmp_path / "checkpoint"))
    assert history_of(replay) == [[]]


@pytest.mark.slow
def test_each_learner_gets_its_batches_back_and_those_of_other_learners_are_dropped_with_a_warning(
    grpo_config: Callable[..., GRPOConfig],
    running: Callable[[GRPO], GRPO],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = grpo_config(update_rule=REPLAY, minibatch_size=4, max_tokens_per_micro_batch=20)
    one = running(config.copy(copy_frozen=False).build_algo())
    one.train()
    of_one = one.save_to_path(tmp_path / "of_one")
    two = running(config.learners(num_learners=2).build_algo())
    train(two, 2)
    of_two = two.save_to_path(tmp_path / "of_two")
    shares, weights = history_of(two), []
    assert [len(share) for share in shares] == [2, 2]
    assert not torch.equal(shares[0][0], shares[1][0])
    for _ in range(2):
        _, results = train(two, 2)
        assert [sfpo_results(result)["num_recent_batches"] for result in results] == [2, 2]
        weights.append(two.get_module_weights())
        two.restore_from_path(of_two)
        for share, restored in zip(shares, history_of(two), strict=True):
            assert [batch.tolist() for batch in share] == [batch.tolist() for batch in restored]
    assert_equal_weights(*weights)

    with caplog.at_level(logging.WARNING, logger="sfpo_rllib"):
        two.restore_from_path(of_one)
    assert "recent batches of 1 learners, there are 2" in caplog.text
    assert history_of(two) == [[], []]
    assert_equal_weights(one.get_module_weights(), two.get_module_weights())
    result = sfpo_results(two.train())
    assert result["num_recent_batches"] == 0
    assert num_passes({"learners": {"default_policy": {"sfpo": result}}}) == 3


# Rules of one's own.


def velocity_of(rule: str | UpdateRule) -> list[torch.Tensor]:
    assert isinstance(rule, HeavyBall)
    return rule.velocity


def test_an_own_rule_trains_and_goes_on_from_its_state(
    grpo_config: Callable[..., GRPOConfig], running: Callable[[GRPO], GRPO], tmp_path: Path
) -> None:
    config = grpo_config(update_rule=HeavyBall(0.5), minibatch_size=8)
    whole, first = (running(config.copy(copy_frozen=False).build_algo()) for _ in range(2))
    _, results = train(whole, 4)
    assert [num_passes(result) for result in results] == [1, 1, 1, 1]
    assert all(sfpo_results(result)["velocity_norm"] > 0 for result in results)

    train(first, 2)
    restored = running(GRPO.from_checkpoint(first.save_to_path(tmp_path / "checkpoint")))
    velocity, other = (velocity_of(learner_of(algo)._updater.rule) for algo in (first, restored))
    assert len(velocity) == len(other) > 1
    assert all(map(torch.equal, velocity, other))
    train(restored, 2)
    assert_equal_weights(whole.get_module_weights(), restored.get_module_weights())

    # The learner has a rule of its own; the config's stays as it was given.
    for algo in (whole, first, restored):
        for given in (config, algo.config, learner_of(algo).config):
            assert velocity_of(given.update_rule) == []


def test_a_rule_whose_first_pass_is_not_at_the_start_has_to_say_so(build: Build) -> None:
    algo = build(update_rule=Nudged())
    with pytest.raises(RuntimeError, match=r"Nudged.*: it moved .* first_pass_at_start = False"):
        algo.train()


@pytest.mark.parametrize("minibatch_size", [None, 4])
def test_a_rule_that_says_so_gets_its_ratios_to_the_start(
    build: Build, minibatch_size: int | None
) -> None:
    result = sfpo_results(
        build(update_rule=HonestlyNudged(), minibatch_size=minibatch_size).train()
    )
    assert result["engine_logp_diff"] < 1e-5  # to the weights that the engine sampled with
    assert result["pass_0"]["kl_to_start"] > 1e-4
