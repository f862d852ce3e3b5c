"""Two learners that share one model by FSDP2 (gloo, CPU), against one learner that has it whole."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

import ray
from probes import ECHO, assert_equal_weights, greatest_difference, sfpo_results, train
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_OPTIMIZER, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from transformers import AutoModelForCausalLM

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.core.anchor import Anchor, local
from sfpo_rllib.remote import values_of
from sfpo_rllib.rl_modules.weights import unpack_weights

pytestmark = pytest.mark.slow

ITERATIONS = 2


def configured(make_config: Callable[..., SFPOConfig], *, sharded: bool) -> SFPOConfig:
    """32 completions a batch, with all that must be sharded: a reference, checkpointing, a window.

    An epsilon that is not small beside the gradients keeps AdamW from turning rounding into steps.
    """
    config = make_config(env=ECHO, env_config={"equal_rewards_every": 3}).training(
        train_batch_size_per_learner=16 if sharded else 32,
        minibatches_per_pass=1,
        optimizer_kwargs={"eps": 1e-3},
        kl_coeff=0.1,
        equal_reward_groups="drop",
        entropy_window=4,
        entropy_z_threshold=1.73,
        max_tokens_per_micro_batch=60,
    )
    config.rl_module(model_config={**config.model_config, "gradient_checkpointing": True})
    if sharded:
        config.learners(num_learners=2, parallelism="fsdp")
    return config


@pytest.fixture(scope="module")
def one(make_config: Any, ray_cluster: None) -> Iterator[tuple[SFPO, list[dict[str, Any]]]]:
    """A learner that has the model whole, and its results."""
    algo = configured(make_config, sharded=False).build_algo()
    yield algo, [algo.train() for _ in range(ITERATIONS)]
    algo.stop()


@pytest.fixture(scope="module")
def two(make_config: Any, ray_cluster: None) -> Iterator[tuple[SFPO, list[dict[str, Any]]]]:
    """Two that share it."""
    algo = configured(make_config, sharded=True).build_algo()
    yield algo, [algo.train() for _ in range(ITERATIONS)]
    algo.stop()


def moments(algo: SFPO) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter and name."""
    state = algo.learner_group.get_state(components=f"{COMPONENT_LEARNER}/{COMPONENT_OPTIMIZER}")
    (optimizer,) = state[COMPONENT_LEARNER][COMPONENT_OPTIMIZER].values()
    return {
        f"{index}/{name}": torch.tensor(value)
        for index, values in optimizer["state"]["state"].items()
        for name, value in values.items()
    }


def test_they_train_as_one_does(one: Any, two: Any) -> None:
    for measured, expected in zip(two[1], one[1], strict=True):
        for k in range(4):
            for name, value in sfpo_results(expected)[f"pass_{k}"].items():
                actual = sfpo_results(measured)[f"pass_{k}"][name]
                assert actual == pytest.approx(value, rel=1e-4, abs=1e-5), (k, name)
    weights, expected_weights = two[0].get_module_weights(), one[0].get_module_weights()
    start = AutoModelForCausalLM.from_pretrained(one[0].config.model_config["model"]).state_dict()
    moved = {name: start[name] for name in expected_weights}
    assert greatest_difference(expected_weights, moved) > 1e-3
    assert greatest_difference(weights, expected_weights) < 1e-5
    assert greatest_difference(moments(two[0]), moments(one[0])) < 1e-5


def test_what_engines_load_is_cast_before_it_is_gathered(two: Any) -> None:
    def cast(learner: Learner) -> tuple[int, set[str]]:
        module = learner.module[DEFAULT_MODULE_ID]
        kept, module.compute_dtype = module.compute_dtype, torch.bfloat16
        try:
            learner.gather_state(for_engines=True)
            gathered = module._gathered
            learner.release_state()
        finally:
            module.compute_dtype = kept
        tensors = [tensor for tensor in gathered.values() if tensor is not None]
        return len(tensors), {str(tensor.dtype) for tensor in tensors}

    (count, dtypes), (none, _) = values_of(two[0].learner_group.foreach_learner(cast))
    assert count and dtypes == {"torch.bfloat16"} and none == 0
    version, ref = two[0].learner_group.engine_weights()
    payload = unpack_weights(ray.get(ref)[DEFAULT_MODULE_ID])
    masters = two[0].get_module_weights()
    assert version == ITERATIONS and payload
    for name, tensor in payload.items():
        assert torch.equal(tensor, masters[name]), name


def test_each_holds_its_shard_of_everything(two: Any) -> None:
    """Weights, reference, gradients, moments and the update rule's copy."""

    def sizes(learner: Learner) -> list[tuple[int, int, int, int, int, int]]:
        module = learner.module[DEFAULT_MODULE_ID]
        optimizer = learner.get_optimizer()
        anchor = Anchor(module.lm.parameters(), device="cpu")
        names = dict(module.reference.named_parameters())
        return [
            (
                param.numel(),
                local(param).numel(),
                local(names[name]).numel(),
                local(param.grad).numel(),
                local(optimizer.state[param]["exp_avg"]).numel(),
                held.numel(),
            )
            for (name, param), held in zip(
                module.lm.named_parameters(), anchor._origin, strict=True
            )
        ]

    first, second = values_of(two[0].learner_group.foreach_learner(sizes))
    for (numel, *one_shard), (_, *other_shard) in zip(first, second, strict=True):
        for own, others in zip(one_shard, other_shard, strict=True):
            assert own + others == numel
            assert abs(own - others) <= numel // 8  # rows that do not divide evenly


def test_the_checkpoint_is_one_that_either_restores(
    one: Any, two: Any, make_config: Any, tmp_path: Path
) -> None:
    algo = two[0]
    path = algo.save_to_path(tmp_path / "sharded")
    weights, state = algo.get_module_weights(), moments(algo)
    problems = train(algo, 1)[0]
    trained_on = algo.get_module_weights()
    assert greatest_difference(trained_on, weights) > 1e-4

    algo.restore_from_path(path)
    assert_equal_weights(algo.get_module_weights(), weights)
    assert_equal_weights(moments(algo), state)
    assert train(algo, 1)[0] == problems
    assert_equal_weights(algo.get_module_weights(), trained_on)

    whole = configured(make_config, sharded=False).build_algo()
    whole.restore_from_path(path)
    assert_equal_weights(whole.get_module_weights(), weights)
    assert_equal_weights(moments(whole), state)
    whole.stop()

    algo.restore_from_path(one[0].save_to_path(tmp_path / "whole"))
    assert_equal_weights(algo.get_module_weights(), one[0].get_module_weights())
    assert_equal_weights(moments(algo), moments(one[0]))


def test_the_export_is_one_transformers_folder(two: Any, tmp_path: Path) -> None:
    folder = two[0].save_pretrained(tmp_path / "model")
    exported = AutoModelForCausalLM.from_pretrained(folder)
    state = exported.state_dict()
    weights = two[0].get_module_weights()
    assert_equal_weights({name: state[name] for name in weights}, weights)


def test_a_learner_that_is_asked_alone_refuses_instead_of_waiting(two: Any) -> None:
    results = two[0].learner_group.foreach_learner(
        lambda learner: learner.get_state(), remote_actor_ids=[0]
    )
    with pytest.raises(RuntimeError, match="ask the learner group"):
        values_of(results)
