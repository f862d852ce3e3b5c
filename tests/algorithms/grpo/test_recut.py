"""Mini-batches that are a pass's own: what is in them, and that their gradients are right."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

import gymnasium as gym
from ray.rllib.core import DEFAULT_MODULE_ID

from sfpo_rllib import GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.grpo.minibatches import (
    PLACE,
    ROW,
    START_LOGP,
    WEIGHTS,
    Minibatches,
    add_reference_logp,
)
from sfpo_rllib.algorithms.grpo.recut import Recut
from sfpo_rllib.core import MultiEpoch, SlowFast, SlowFastGated, SlowFastReplay
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
)

GROUPS, GROUP_SIZE = 6, 4
BATCH = GROUPS * GROUP_SIZE
WIDTH = 12

MakeLearner = Callable[..., GRPOTorchLearner]


@pytest.fixture
def make_learner(tiny_model: Path) -> MakeLearner:
    """`make_learner(**training)`: a learner in this process, without ray."""

    def make(
        packing: bool | str = False, record_rollouts: int = 0, **training: Any
    ) -> GRPOTorchLearner:
        config = (
            GRPOConfig()
            .rl_module(model_config={"model": str(tiny_model), "packing": packing})
            .env_runners(sampling={"max_tokens": WIDTH})
            .training(train_batch_size_per_learner=BATCH, group_size=GROUP_SIZE)
            .training(lr=1e-2, max_tokens_per_micro_batch=60, max_engine_logp_diff=None)
            .training(grad_clip=1e6)
            .training(**training)
            .reporting(record_rollouts=record_rollouts)
        )
        space = gym.spaces.Text(1)
        return config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})

    return make


def rollouts(not_counted: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """Ragged groups, near what the model would say; in some of the rows nothing counts."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, WIDTH + 1, (BATCH, 1), generator=generator)
    positions = torch.arange(WIDTH)
    mask = (positions >= 2) & (positions < lengths)
    mask[list(not_counted)] = False
    ids = torch.randint(3, 15, (BATCH, WIDTH), generator=generator)
    logp = -2.5 + 0.1 * torch.randn(BATCH, WIDTH, generator=generator)
    return {
        INPUT_IDS: ids * (positions < lengths),
        ATTENTION_MASK: positions < lengths,
        LOSS_MASK: mask,
        BEHAVIOUR_LOGP: logp * (positions < lengths),
        ADVANTAGES: torch.randn(BATCH, generator=generator),
    }


def rows_of(minibatches: Minibatches) -> list[list[int]]:
    """The rows of each mini-batch that count somewhere, sorted."""
    return [
        sorted(int(row) for m in part for row in m[ROW][m[LOSS_MASK].any(dim=1)])
        for part in minibatches
    ]


def all_rows(minibatches: Minibatches) -> list[int]:
    return sorted(itertools.chain.from_iterable(rows_of(minibatches)))


def steps_of(learner: GRPOTorchLearner, minibatches: Minibatches) -> list[dict[str, Any]]:
    """The gradient of each mini-batch at the weights as they are, and its share of the batch."""
    steps = []
    apply, learner.apply_gradients = learner.apply_gradients, lambda gradients: None
    for part in minibatches:
        learner._optimizer_step(part)
        gradients = [p.grad.clone() for p in learner._params.values()]
        masks = [micro[LOSS_MASK] for micro in part]
        tokens = sum(int(mask.sum()) for mask in masks)
        sequences = sum(int(mask.any(dim=1).sum()) for mask in masks)
        steps.append({"gradients": gradients, "token": tokens, "sequence": sequences})
    learner.apply_gradients = apply
    return steps


# What is in them.


@pytest.mark.parametrize(("base", "num_minibatches"), [(1, 3), (1, 24), (2, 8), (8, 1), (8, 2)])
def test_every_sequence_is_in_one_mini_batch_and_all_are_of_one_size(
    make_learner, base, num_minibatches
):
    learner = make_learner(minibatches_per_pass=base)
    minibatches = learner._partition(rollouts())
    own = make_learner(minibatches_per_pass=num_minibatches)._partition(rollouts())
    recut = learner._cut_again(minibatches, Recut(num_minibatches))
    assert [len(rows) for rows in rows_of(recut)] == [BATCH // num_minibatches] * num_minibatches
    assert all_rows(recut) == list(range(BATCH))
    # They are those that the config would have made.
    assert rows_of(recut) == rows_of(own)
    for part, expected in zip(recut, own, strict=True):
        for micro, other in zip(part, expected, strict=True):
            assert micro.keys() == other.keys()
            assert all(torch.equal(micro[name], other[name]) for name in micro)


@pytest.mark.parametrize(("fraction", "groups"), [(0.5, 3), (0.34, 2), (0.01, 1), (0.8, 5)])
def test_a_part_of_the_batch_is_whole_groups_which_take_turns(make_learner, fraction, groups):
    learner = make_learner()
    minibatches, expected = learner._partition(rollouts()), 0
    for turn in range(2 * GROUPS):
        num_minibatches = (1, 2, 4)[turn % 3]
        recut = learner._cut_again(minibatches, Recut(num_minibatches, fraction, turn))
        chosen = [(expected + i) % GROUPS for i in range(groups)]
        expected += groups
        rows = rows_of(recut)
        assert all_rows(recut) == sorted(
            group * GROUP_SIZE + i for group in chosen for i in range(GROUP_SIZE)
        )
        assert [len(part) for part in rows] == [groups * GROUP_SIZE // num_minibatches] * (
            num_minibatches
        )


def test_mini_batches_without_a_token_that_counts_are_left_out(make_learner):
    learner = make_learner(minibatches_per_pass=2)
    whole = learner._partition(rollouts())
    first_of_four = rows_of(learner._cut_again(whole, Recut(4)))[0]
    learner = make_learner(minibatches_per_pass=2)
    minibatches = learner._partition(rollouts(tuple(first_of_four)))
    recut = learner._cut_again(minibatches, Recut(4))
    assert len(recut) == 3
    assert all_rows(recut) == sorted(set(range(BATCH)) - set(first_of_four))
    # Nor is there anything to be learned from a part that nothing of counts.
    minibatches = make_learner()._partition(rollouts(tuple(range(3 * GROUP_SIZE))))
    assert learner._cut_again(minibatches, Recut(2, 0.5)) == []
    assert set(learner.run_pass([], num_minibatches=4)) == {"loss", "entropy"}


def test_a_learner_with_none_of_a_mini_batch_that_others_have_takes_part_in_its_step(make_learner):
    learner = make_learner()
    minibatches = learner._partition(rollouts(tuple(range(3 * GROUP_SIZE))))

    def with_another(*tensors: torch.Tensor) -> None:
        for tensor in tensors:
            tensor += 5  # tokens and sequences of another learner

    learner._all_reduce = with_another
    [[blank]] = learner._cut_again(minibatches, Recut(1, 0.5, turn=0))
    assert len(blank[ROW]) == 1 and not blank[LOSS_MASK].any() and not blank[WEIGHTS].any()
    recut = learner._cut_again(minibatches, Recut(4, 0.5, turn=1))
    assert [len(rows) for rows in rows_of(recut)] == [3] * 4
    weights = sum(float(m[WEIGHTS].sum()) for m in recut[0])
    tokens = sum(int(m[LOSS_MASK].sum()) for m in recut[0])
    assert weights == pytest.approx(tokens / (tokens + 5))  # normalised over both


# Their gradients.


@pytest.mark.parametrize(
    ("loss", "packing", "not_counted"),
    [
        ("grpo", False, ()),
        ("grpo", "auto", (0, 1, 2, 3, 9, 17)),
        ("dr_grpo", False, (0, 1, 2, 3, 9, 17)),
        ("gspo", True, ()),
    ],
)
def test_gradients_of_a_pass_at_frozen_weights_are_that_of_the_whole_batch(
    make_learner, loss, not_counted, packing
):
    learner = make_learner(loss=loss, grad_clip=None, kl_coeff=0.1, packing=packing)
    minibatches = learner._partition(rollouts(not_counted))
    learner._start_versions = [p._version for p in learner._params.values() if p.requires_grad]
    module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    add_reference_logp(module, minibatches)
    learner._add_start_logp(minibatches)
    [whole] = steps_of(learner, minibatches)
    unit = "token" if loss == "grpo" else "sequence"
    for num_minibatches in (2, 8):
        parts = steps_of(learner, learner._cut_again(minibatches, Recut(num_minibatches)))
        assert sum(part[unit] for part in parts) == whole[unit]
        for i, expected in enumerate(whole["gradients"]):
            got = sum(part["gradients"][i] * part[unit] / whole[unit] for part in parts)
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def trained(learner: GRPOTorchLearner, batches: int = 2) -> list[torch.Tensor]:
    for _ in range(batches):
        learner._weights_seq_no += 1
        learner._update({DEFAULT_MODULE_ID: rollouts()})
    return [p.detach().clone() for p in learner._params.values()]


@pytest.mark.parametrize(
    ("rule", "same", "as_config"),
    [
        (SlowFast(2, 0.5, fast_minibatches=4, slow_minibatches=4), SlowFast(2, 0.5), 4),
        (SlowFast(1, 1.0, fast_minibatches=3, slow_minibatches=3), MultiEpoch(2), 3),
        (SlowFast(2, 0.0, slow_minibatches=4), "single", 4),
        (
            SlowFastReplay(1, 0.5, 2, fast_minibatches=2, slow_minibatches=2),
            SlowFastReplay(1, 0.5, 2),
            2,
        ),
    ],
    ids=str,
)
def test_passes_cut_by_the_rule_train_as_those_cut_by_the_config(
    make_learner, rule, same, as_config
):
    one = trained(make_learner(update_rule=rule))
    other = trained(make_learner(update_rule=same, minibatches_per_pass=as_config))
    for weight, expected in zip(one, other, strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=2e-5)


def test_fast_passes_take_their_steps_and_the_slow_pass_one(make_learner):
    learner = make_learner(update_rule=SlowFast(2, 0.3, fast_minibatches=8, slow_minibatches=1))
    trained(learner, batches=1)
    assert learner._optimizer_steps == 2 * 8 + 1
    learner = make_learner(update_rule=SlowFast(2, 0.3, fast_fraction=0.5), minibatches_per_pass=4)
    trained(learner, batches=1)
    assert learner._optimizer_steps == 3 * 4


@pytest.mark.parametrize("by", ["batch", "group"])
@pytest.mark.parametrize("then", [{"record_rollouts": 1}, {"kl_coeff": 0.1}], ids=str)
def test_what_was_kept_under_other_settings_is_replayed_under_those_of_today(
    make_learner, by, then
):
    rule = SlowFastReplay(1, 0.5, 3, by=by)
    learners = [make_learner(update_rule=rule, **settings) for settings in ({}, then, then)]
    without, changed, throughout = learners
    for learner in (without, throughout):
        trained(learner, batches=1)
    changed.set_state(throughout.get_state())
    changed.set_recent_batches(without.get_recent_batches())
    for learner in (changed, throughout):
        trained(learner, batches=3)
    for weight, expected in zip(*(each._params.values() for each in learners[1:]), strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)
    without.set_recent_batches(throughout.get_recent_batches())
    trained(without, batches=1)  # nor does what is wanted no more disturb


@pytest.mark.parametrize("base", [1, 4])
def test_ratios_of_recut_passes_are_to_the_start_of_the_batch(make_learner, base):
    rule = SlowFast(1, 0.3, fast_minibatches=2, slow_minibatches=1)
    learner = make_learner(update_rule=rule, minibatches_per_pass=base)
    minibatches = learner._partition(rollouts())
    learner._start_versions = [p._version for p in learner._params.values() if p.requires_grad]
    learner.run_pass(minibatches, num_minibatches=2)
    start = {
        int(micro[ROW][i]): micro[START_LOGP][i][micro[LOSS_MASK][i]]
        for part in minibatches
        for micro in part
        for i in range(len(micro[ROW]))
    }
    for micro in (m for part in learner._cut_again(minibatches, Recut(1)) for m in part):
        assert micro[PLACE].unique().numel() == len(micro[PLACE])
        for i, row in enumerate(micro[ROW].tolist()):
            assert torch.equal(micro[START_LOGP][i][micro[LOSS_MASK][i]], start[row])


def test_the_output_layers_gradient_is_measured_where_the_rule_looks_at_it(make_learner):
    learner = make_learner(update_rule=SlowFastGated(3, 0.3, max_head_grad_growth=1e-3))
    trained(learner, batches=1)
    assert learner._optimizer_steps == 2 + 1  # the second pass's is more than next to nothing
    minibatches = learner._partition(rollouts())
    learner._start_versions = [p._version for p in learner._params.values() if p.requires_grad]
    result = learner.run_pass(minibatches)
    head = learner.module[DEFAULT_MODULE_ID].unwrapped().lm.get_output_embeddings().weight
    assert result["head_grad_norm"] == pytest.approx(float(head.grad.norm()), rel=1e-5)
    assert 0 < result["head_grad_norm"] < result["grad_norm"]
    plain = make_learner()
    plain._start_versions = [p._version for p in plain._params.values() if p.requires_grad]
    assert "head_grad_norm" not in plain.run_pass(plain._partition(rollouts()))


# Settings.


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"fast_minibatches": 5}, "fast_minibatches=5: must divide the 24 completions of train_"),
        ({"slow_minibatches": 7}, "slow_minibatches=7: must divide the 24 completions of train_"),
        ({"fast_minibatches": 48}, "fast_minibatches=48: must divide the 24 completions of"),
        (
            {"fast_minibatches": 8, "fast_fraction": 0.5},
            "fast_minibatches=8: must divide the 12 completions that fast_fraction=0.5 leaves of",
        ),
        (
            {"fast_fraction": 0.5, "minibatches_per_pass": 8},
            "fast_minibatches=None: is 8 here, and must divide the 12 completions that fast_",
        ),
        ({"fast_minibatches": 0}, "fast_minibatches=0: must be an integer >= 1 or None"),
        ({"fast_fraction": 1.5}, "fast_fraction=1.5: must be a number in (0, 1]"),
    ],
    ids=str,
)
def test_mini_batches_that_do_not_come_out_even_are_refused_by_name(settings, problem):
    config = SFPOConfig().training(
        train_batch_size_per_learner=BATCH, group_size=GROUP_SIZE, **settings
    )
    [found] = [p for p in config.cheap_problems() if "_minibatches" in p or "fraction" in p]
    assert found.startswith(problem)


def test_sfpo_takes_them_as_settings():
    config = SFPOConfig().training(
        fast_steps=1, reposition_alpha=0.3, fast_minibatches=8, slow_minibatches=1
    )
    assert config.make_update_rule() == SlowFast(1, 0.3, fast_minibatches=8, slow_minibatches=1)
    assert SFPOConfig().make_update_rule() == SlowFast(3, 0.8)
    config.training(preset="official_repo")
    assert config.make_update_rule() == SlowFast(3, 0.8)
