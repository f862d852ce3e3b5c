"""What a learner refuses to learn from, and what it does not mind; one learner, no processes."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import pytest
import torch

pytest.importorskip("ray")

from probes import ECHO, assert_equal_weights, greatest_difference
from ray.rllib.core import DEFAULT_MODULE_ID

from sfpo_rllib import GRPO, GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.core import ClipRange, LossInputs, SlowFastReplay
from sfpo_rllib.core.batch_guard import MAX_IN_A_ROW
from sfpo_rllib.core.losses import clipped_surrogate
from sfpo_rllib.rl_modules import token_logprobs
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOGP,
    LOSS_MASK,
    WEIGHTS_VERSION,
)

MakeConfig = Callable[..., SFPOConfig]
Batch = dict[str, torch.Tensor]

SETTINGS: dict[str, dict[str, Any]] = {
    "one mini-batch": {},
    "several mini-batches": {"minibatch_size": 4},
    "a reference": {"kl_coeff": 0.1},
    "earlier batches first": {"update_rule": SlowFastReplay(fast_steps=2, num_batches=2)},
}


def build_learner(make_config: MakeConfig, **training: Any) -> GRPOTorchLearner:
    """On its own, in this process."""
    rule = {"update_rule": training.pop("update_rule")} if "update_rule" in training else {}
    config = make_config(GRPOConfig if rule else SFPOConfig).training(**rule, **training)
    space = gym.spaces.Text(1)
    return config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})


def weights_of(learner: GRPOTorchLearner) -> dict[str, torch.Tensor]:
    weights = learner.module[DEFAULT_MODULE_ID].unwrapped().weights()
    return {name: weight.clone() for name, weight in weights.items()}


def sampled(learner: GRPOTorchLearner, seed: int, *, noise: float = 0.0) -> Batch:
    """Random sequences with the log-probs that the learner has, and noise on them."""
    generator = torch.Generator().manual_seed(seed)
    shape = (16, 12)
    batch = {
        INPUT_IDS: torch.randint(3, 15, shape, generator=generator),
        ATTENTION_MASK: torch.ones(shape, dtype=torch.long),
        LOSS_MASK: (torch.arange(12) >= 4).repeat(16, 1),
        ADVANTAGES: torch.randn(16, generator=generator),
    }
    with torch.no_grad():
        logp = learner.module[DEFAULT_MODULE_ID].unwrapped().forward_train(batch)[LOGP]
    batch[BEHAVIOUR_LOGP] = logp + noise * torch.randn(shape, generator=generator)
    return batch


def update(learner: GRPOTorchLearner, batch: Batch) -> dict[str, Any]:
    """One update; returns what is logged of it."""
    learner.before_gradient_based_update(timesteps={})
    learner._update({DEFAULT_MODULE_ID: dict(batch)})
    logged = learner.metrics.reduce()[DEFAULT_MODULE_ID]["sfpo"]
    return {name: value.peek() for name, value in logged.items() if hasattr(value, "peek")}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_batch_whose_log_probs_are_of_other_replies_is_refused_before_the_first_step(
    make_config: MakeConfig, setting: str
) -> None:
    learner, untouched = (build_learner(make_config, **SETTINGS[setting]) for _ in range(2))
    for seed in range(2):
        for each in (learner, untouched):
            update(each, sampled(each, seed))
    before, steps = weights_of(learner), learner._optimizer_steps
    bad = sampled(learner, 2)
    bad[BEHAVIOUR_LOGP] = sampled(learner, 3)[BEHAVIOUR_LOGP] - 0.8
    logged = update(learner, bad)

    assert logged["refused_batches_lifetime"] == 1
    assert logged["engine_logp_diff"] == pytest.approx(0.8, abs=0.1)
    assert logged["active"] == 0
    assert math.isnan(logged["entropy"]) and math.isnan(logged["entropy_z"])
    assert learner._optimizer_steps == steps
    assert_equal_weights(weights_of(learner), before)
    # And nothing is left of it: the next batch is learned from as if it had not been.
    untouched._partition_rng.set_state(learner._partition_rng.get_state())
    for each in (learner, untouched):
        logged = update(each, sampled(each, 4))
    assert_equal_weights(weights_of(learner), weights_of(untouched))
    assert greatest_difference(weights_of(learner), before) > 1e-4


@pytest.mark.parametrize("training", [{}, {"minibatch_size": 4}, {"optimizer": "sgd"}], ids=str)
def test_a_batch_of_equal_rewards_moves_nothing_whatever_the_moments_remember(
    make_config: MakeConfig, training: dict[str, Any]
) -> None:
    momentum = {"momentum": 0.9} if "optimizer" in training else {}
    training = {"weight_decay": 0.1, "optimizer_kwargs": momentum, **training}
    learner = build_learner(make_config, **training)
    steps = update(learner, sampled(learner, 0))["optimizer_steps_lifetime"]
    before = weights_of(learner)
    equal = {**sampled(learner, 1), ADVANTAGES: torch.zeros(16)}
    logged = update(learner, equal)
    assert_equal_weights(weights_of(learner), before)
    assert logged["zero_gradient_steps_lifetime"] == steps
    assert (logged["optimizer_steps_lifetime"], logged["skipped_steps_lifetime"]) == (steps, 0)
    update(learner, sampled(learner, 2))
    assert greatest_difference(weights_of(learner), before) > 1e-6


@pytest.mark.parametrize("term", ["kl_coeff", "entropy_coeff"])
def test_a_batch_of_equal_rewards_still_trains_by_another_term(
    make_config: MakeConfig, term: str
) -> None:
    learner = build_learner(make_config, weight_decay=0.0, **{term: 0.1})
    update(learner, sampled(learner, 0))
    before = weights_of(learner)
    equal = {**sampled(learner, 1), ADVANTAGES: torch.zeros(16)}
    assert update(learner, equal)["zero_gradient_steps_lifetime"] == 0
    assert greatest_difference(weights_of(learner), before) > 1e-6


@pytest.mark.parametrize("noise", [1e-7, 0.05, 0.3])
def test_batches_that_differ_by_rounding_or_quantization_are_learned_from(
    make_config: MakeConfig, noise: float
) -> None:
    learner = build_learner(make_config)
    logged = update(learner, sampled(learner, 0, noise=noise))
    assert logged["refused_batches_lifetime"] == 0
    assert logged["optimizer_steps_lifetime"] == 4
    assert logged["engine_logp_diff"] == pytest.approx(noise * math.sqrt(2 / math.pi), rel=0.2)


def test_without_a_bound_every_batch_is_learned_from(make_config: MakeConfig) -> None:
    learner = build_learner(make_config, max_engine_logp_diff=None)
    bad = sampled(learner, 0)
    bad[BEHAVIOUR_LOGP] -= 3.0
    assert update(learner, bad)["optimizer_steps_lifetime"] == 4


def test_log_probs_that_are_nan_are_refused(make_config: MakeConfig) -> None:
    learner = build_learner(make_config)
    bad = sampled(learner, 0)
    bad[BEHAVIOUR_LOGP][3, 7] = math.nan
    logged = update(learner, bad)
    assert (logged["refused_batches_lifetime"], logged["optimizer_steps_lifetime"]) == (1, 0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_replies_of_older_weights_are_learned_from_and_only_those_of_the_present_are_compared(
    make_config: MakeConfig, setting: str
) -> None:
    learner = build_learner(make_config, **SETTINGS[setting])
    present = learner._weights_seq_no - 1  # RLlib counts the update that is under way
    batch = sampled(learner, 0)
    batch[BEHAVIOUR_LOGP][8:] -= 3.0
    batch[WEIGHTS_VERSION] = torch.where(torch.arange(16) < 8, present, present - 1)
    logged = update(learner, batch)
    assert logged["refused_batches_lifetime"] == 0
    assert logged["engine_logp_diff"] == pytest.approx(1.5, abs=1e-3)  # measured all the same

    batch = sampled(learner, 1)
    batch[BEHAVIOUR_LOGP][:8] -= 0.8
    batch[WEIGHTS_VERSION] = torch.where(torch.arange(16) < 8, present, present - 1)
    assert update(learner, batch)["refused_batches_lifetime"] == 1

    batch = sampled(learner, 2)
    batch[WEIGHTS_VERSION] = torch.full((16,), present - 1)
    batch[BEHAVIOUR_LOGP][3, 7] = math.nan
    assert update(learner, batch)["refused_batches_lifetime"] == 2


def test_all_passes_have_the_denominators_of_the_first(make_config: MakeConfig) -> None:
    """Ratios are to the policy at the start of the batch, corrections to what sampled it."""
    seen: list[LossInputs] = []

    def spy(inputs: LossInputs, clip: ClipRange) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen.append(inputs)
        return clipped_surrogate(inputs, clip)

    learner = build_learner(make_config, loss=spy, fast_steps=3, reposition_alpha=0.8)
    batch = sampled(learner, 0, noise=0.3)
    update(learner, batch)
    assert len(seen) == 4
    first = seen[0]
    assert first.engine_logp is not None
    order = torch.cdist(first.engine_logp, batch[BEHAVIOUR_LOGP]).argmin(dim=1)
    assert torch.equal(first.engine_logp, batch[BEHAVIOUR_LOGP][order])
    for inputs in seen[1:]:
        assert torch.equal(inputs.start_logp, first.start_logp)
        assert torch.equal(inputs.weights, first.weights)  # the correction is in them
        assert torch.equal(inputs.engine_logp, first.engine_logp)
        assert not torch.equal(inputs.logp, first.logp)


def test_refused_batches_without_end_are_an_error_and_their_number_is_in_the_state(
    make_config: MakeConfig,
) -> None:
    learner, restored = (build_learner(make_config) for _ in range(2))
    bad = sampled(learner, 0)
    bad[BEHAVIOUR_LOGP] -= 0.8
    for _ in range(MAX_IN_A_ROW - 1):
        update(learner, bad)
    restored.set_state(learner.get_state())
    with pytest.raises(RuntimeError, match="batches in a row were refused"):
        update(restored, bad)


def test_a_batch_of_which_no_token_counts_is_no_sign_of_trouble(make_config: MakeConfig) -> None:
    learner = build_learner(make_config, update_rule=SlowFastReplay(fast_steps=2, num_batches=2))
    batch = sampled(learner, 0)
    batch[LOSS_MASK] = torch.zeros_like(batch[LOSS_MASK])
    logged = update(learner, batch)
    assert (logged["refused_batches_lifetime"], logged["optimizer_steps_lifetime"]) == (0, 0)


@pytest.fixture
def masked_logits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models that mask a part of their vocabulary: the entropies are 0 * -inf, NaN."""
    plain = token_logprobs._log_softmax

    def masked(*args: Any) -> torch.Tensor:
        log_probs = plain(*args)
        log_probs[:, 0] = -math.inf
        return log_probs

    monkeypatch.setattr(token_logprobs, "_log_softmax", masked)
    yield


def test_an_entropy_of_nan_with_finite_gradients_neither_ends_training_nor_fires_the_trigger(
    make_config: MakeConfig, masked_logits: None
) -> None:
    learner = build_learner(make_config, entropy_window=2, entropy_z_threshold=-10.0)
    for seed in range(3):
        logged = update(learner, sampled(learner, seed))
        assert math.isnan(logged["entropy"]) and math.isnan(logged["entropy_z"])
        assert logged["skipped_steps_lifetime"] == 0
    assert logged["optimizer_steps_lifetime"] == 3 * 4
    assert learner._updater.trigger.state_dict()["entropies"] == []


def test_weights_of_nan_are_named_when_a_batch_is_learned_from(make_config: MakeConfig) -> None:
    learner = build_learner(make_config, max_engine_logp_diff=None)
    batch = sampled(learner, 0)
    broken = dict(learner.module[DEFAULT_MODULE_ID].unwrapped().lm.named_parameters())
    with torch.no_grad():
        broken["model.layers.1.mlp.up_proj.weight"][0, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"weights: 1 of .*layers\.1\.mlp\.up_proj"):
        update(learner, batch)


def test_weights_of_nan_are_named_on_their_way_to_the_engines(
    make_config: MakeConfig, running: Callable[[GRPO], GRPO]
) -> None:
    """Whether a step or a checkpoint brought them, before anything is sampled by them."""
    algo = running(make_config(env=ECHO).build_algo())
    module = algo.get_module()
    with torch.no_grad():
        module.lm.get_input_embeddings().weight[5] = math.inf
    with pytest.raises(FloatingPointError, match=r"weights: 1 of .*embed_tokens"):
        algo.set_state(algo.get_state())
