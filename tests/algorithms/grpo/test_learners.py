"""Two learners (gloo, CPU): equal replicas, whole groups, and the update of one learner."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

import ray
from own_objectives import NotFinite, over_the_mean_of_all, positive_only
from probes import ECHO, assert_equal_weights, sfpo_results, train
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner

from sfpo_rllib import GRPO, SFPO, GRPOConfig, SFPOConfig
from sfpo_rllib.algorithms.grpo import grpo
from sfpo_rllib.core.lr_schedule import LRSchedule
from sfpo_rllib.recordings import read_rollouts
from sfpo_rllib.recordings.page import write_page
from sfpo_rllib.remote import values_of
from sfpo_rllib.token_trace import TokenTrace

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

pytestmark = pytest.mark.slow


def replicas(algo: SFPO) -> list[dict[str, Any]]:
    """Weights, optimizer moments, trigger and learning rate of each learner."""

    def state(learner: Learner) -> dict[str, Any]:
        module = learner.module[DEFAULT_MODULE_ID].unwrapped()
        optimizer = learner.get_optimizer().state_dict()["state"]
        moments = {
            f"{index}/{name}": moment.clone()
            for index, moments in optimizer.items()
            for name, moment in moments.items()
        }
        return {
            "tensors": {**{k: v.clone() for k, v in module.weights().items()}, **moments},
            "trigger": learner._updater.trigger.state_dict(),
            "rate": learner.get_optimizer().param_groups[0]["lr"],
        }

    return [result.get() for result in algo.learner_group.foreach_learner(state)]


def record_shards(algo: SFPO) -> list[list[list[tuple[int, int]]]]:
    """Seed and member of the episodes that each learner is given, one entry a batch."""
    batches: list[list[list[tuple[int, int]]]] = []
    update = algo.learner_group.update

    def spied_update(*, episodes_refs: list[ray.ObjectRef], **kwargs: Any) -> Any:
        half = len(episodes_refs) // 2  # references to groups, which RLlib deals in equal parts
        groups = ray.get(episodes_refs[:half]), ray.get(episodes_refs[half:])
        shards = [[TokenTrace.of(e) for group in part for e in group] for part in groups]
        batches.append([[(trace.seed, trace.member) for trace in shard] for shard in shards])
        return update(episodes_refs=episodes_refs, **kwargs)

    algo.learner_group.update = spied_update
    return batches


def test_replicas_stay_equal_and_have_one_rate_through_the_trigger_and_a_restore(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    """With Muon, which has a part of the weights to AdamW."""
    schedule: dict[str, Any] = {"lr_schedule": "cosine", "lr_total_batches": 5}
    expected = LRSchedule(1e-2, **schedule)
    config = make_config(env=ECHO, env_config={"raise_every": 5}).learners(num_learners=2)
    config.training(minibatch_size=8, entropy_window=2, entropy_z_threshold=-10)
    config.training(lr=1e-2, optimizer="muon", **schedule)
    algo = running(config.build_algo())
    batches = record_shards(algo)
    active = []
    for batch in range(4):
        if batch == 3:
            checkpoint = algo.save_to_path(tmp_path / "checkpoint")
        active.append(sfpo_results(algo.train())["active"])
        one, other = replicas(algo)
        assert_equal_weights(one["tensors"], other["tensors"])
        # Of the entropy over both shards; either learner's own would be another.
        assert one["trigger"] == other["trigger"]
        assert len(one["trigger"]["entropies"]) == min(len(active), 2)
        assert one["rate"] == other["rate"] == expected.at(batch)

    assert active == [1, 1, 0, 0]
    for shards in batches:
        assert [len(shard) for shard in shards] == [16, 16]
        for shard in shards:  # whole groups, in order
            firsts = [seed for seed, _ in shard[::4]]
            assert shard == [(seed, member) for seed in firsts for member in range(4)]
    given = [sorted(seed for shard in shards for seed, _ in shard[::4]) for shards in batches]
    given = [seed for seeds in given for seed in seeds]
    assert given == sorted(set(given))
    assert not any(seed % 5 == 0 for seed in given)  # the dropped ones are replaced

    algo.restore_from_path(checkpoint)
    algo.train()
    for restored in replicas(algo):
        assert_equal_weights(restored["tensors"], one["tensors"])
        assert restored["rate"] == one["rate"]


OBJECTIVES: dict[str, dict[str, Any]] = {
    "what needs counts of all learners": {
        "loss": "gspo",
        "clip_param": 0.2,
        "advantages": "batch",
        "kl_coeff": 0.1,
        "equal_reward_groups": "drop",
        "engine_correction": "sequence_mask",
    },
    "own functions": {"loss": positive_only, "advantages": over_the_mean_of_all},
}


@pytest.mark.parametrize(
    ("parallelism", "objective"),
    [("ddp", "what needs counts of all learners"), ("fsdp", "own functions")],
)
def test_two_learners_have_the_gradient_of_one(
    make_config: MakeConfig, running: Running, tmp_path: Path, parallelism: str, objective: str
) -> None:
    """And measure and record the same, also when only they cut the batch into micro-batches.

    One step of plain SGD shows the gradient as it is: AdamW would blow its rounding up.
    """
    env_config = {"equal_rewards_every": 3}
    # So long a step that the weights' own rounding does not show.
    plain = {"optimizer": "sgd", "weight_decay": 0.0, "grad_clip": None, "lr": 1e4}
    plain |= OBJECTIVES[objective]
    one = make_config(GRPOConfig, env=ECHO, env_config=env_config)
    one.training(train_batch_size_per_learner=32, **plain)
    two = make_config(GRPOConfig, env=ECHO, env_config=env_config)
    two.learners(num_learners=2, parallelism=parallelism)
    two.training(max_tokens_per_micro_batch=40, **plain)
    gradients, problems, measures, recorded = [], [], [], []
    for config in (one, two):
        algo = running(config.reporting(record_rollouts=8).build_algo())
        if config.kl_coeff:  # otherwise the policy is its own reference
            move_the_policy(algo)
        start = algo.get_module_weights()
        seen, (result,) = train(algo, 1)
        measures.append(sfpo_results(result)["pass_0"])
        steps = {n: (w - start[n]) / 1e4 for n, w in algo.get_module_weights().items()}
        gradients.append(steps)
        problems.append(seen)
        recorded.append(list(read_rollouts(algo.logdir)))

    assert problems[0] == problems[1]
    assert len({(row["seed"], row["member"]) for row in recorded[1]}) == 32, "each episode once"
    for alone, shared in zip(*recorded, strict=True):
        for name in ("seed", "member", "reward", "token_ids"):
            assert shared[name] == alone[name]
        for name in ("advantage", "old_logps", "entropies"):  # of the right one, wherever it was
            assert (alone[name] is None) == (shared[name] is None)
            if alone[name] is not None:
                expected = pytest.approx(alone[name], rel=1e-3, abs=1e-5, nan_ok=True)
                assert shared[name] == expected, name
    assert write_page([algo.logdir], tmp_path / "view.html", max_mb=30).num_episodes == 32
    for name in measures[0]:
        assert measures[1][name] == pytest.approx(measures[0][name], rel=1e-3, abs=1e-5), name
    for name, expected in gradients[0].items():
        scale = expected.abs().max()
        assert scale > 1e-6, name
        assert (gradients[1][name] - expected).abs().max() < 1e-5 * scale, name


def move_the_policy(algo: GRPO) -> None:
    """Away from its reference, the same way whoever holds it."""
    generator = np.random.default_rng(0)
    state = algo.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}")
    weights = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
    moved = {
        name: weight + 0.02 * generator.standard_normal(weight.shape, np.float32)
        for name, weight in sorted(weights.items())
    }
    values_of(
        algo.learner_group.foreach_learner(
            lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped().set_state(moved)
        )
    )


@pytest.mark.parametrize("parallelism", ["ddp", "fsdp"])
def test_learners_leave_out_the_same_mini_batches_and_skip_the_same_steps(
    make_config: MakeConfig,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    parallelism: str,
) -> None:
    """With two sequences each, often one of them has nothing that counts, or both.

    And the one that has less has fewer micro-batches, for which the other must not wait.
    """
    monkeypatch.setattr(grpo, "even_shares", lambda sizes, _: [list(range(4)), list(range(4, 8))])
    config = make_config(env=ECHO, env_config={"equal_rewards_every": 2})
    config.learners(num_learners=2, parallelism=parallelism)
    config.training(
        loss=NotFinite(True, False),
        minibatch_size=2,
        max_tokens_per_micro_batch=10,
        equal_reward_groups="drop",
        entropy_z_threshold=1.0,
    )
    algo = running(config.build_algo())
    result = sfpo_results(algo.train())
    assert np.isfinite(result["pass_3"]["loss"])
    # A learner's first loss is broken: in one step, or two if theirs are in different ones.
    steps, skipped = result["optimizer_steps_lifetime"], result["skipped_steps_lifetime"]
    assert skipped in (1, 2)
    assert 0 < steps < 4 * 8
    assert (steps + skipped) % 4 == 0  # the same in every pass
    if parallelism == "ddp":  # otherwise there are no replicas
        one, other = replicas(algo)
        assert_equal_weights(one["tensors"], other["tensors"])
