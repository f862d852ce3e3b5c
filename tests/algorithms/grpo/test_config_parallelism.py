"""What sharded learners refuse, before anything starts."""

from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from sfpo_rllib import SFPOConfig
from sfpo_rllib.algorithms.grpo.fsdp import FSDPTorchLearner
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.core import OptimizerSpec
from sfpo_rllib.core.registry import imported
from sfpo_rllib.rl_modules.parallelism import PARALLELISMS, parallelism_class


def problems(training: dict[str, Any] | None = None, **learners: Any) -> list[str]:
    config = SFPOConfig().training(**training or {})
    config.learners(**{"num_learners": 2, "parallelism": "fsdp", **learners})
    return [problem for problem in config.cheap_problems() if "model" not in problem.split("=")[0]]


def test_two_learners_may_share_a_model() -> None:
    assert problems() == []


@pytest.mark.parametrize("kind", ["zero3", None, ["fsdp"]])
def test_parallelism_is_ddp_or_fsdp(kind: Any) -> None:
    assert problems(parallelism=kind) == [f"parallelism={kind!r}: must be one of ('ddp', 'fsdp')"]


@pytest.mark.parametrize("name", PARALLELISMS)
def test_a_kind_names_its_learners_and_their_group(name: str) -> None:
    kind = parallelism_class(name)
    assert issubclass(imported(kind.learner), GRPOTorchLearner)
    assert issubclass(imported(kind.learner_group), GRPOLearnerGroup)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_failed_learners_are_restarted_or_not(value: Any) -> None:
    config = SFPOConfig().fault_tolerance(restart_failed_learners=value)
    assert f"restart_failed_learners={value!r}: must be True or False" in config.cheap_problems()


@pytest.mark.parametrize("number", [0, 1])
def test_one_learner_has_nobody_to_share_with(number: int) -> None:
    (problem,) = problems(num_learners=number)
    assert problem.startswith(f"num_learners={number}: must be at least 2 with parallelism='fsdp'")


def test_per_tensor_clipping_of_shards_is_refused() -> None:
    (problem,) = problems({"grad_clip": 1.0, "grad_clip_by": "norm"})
    assert problem.startswith("grad_clip_by='norm': must be 'global_norm' with parallelism='fsdp'")
    assert problems({"grad_clip": None, "grad_clip_by": "norm"}) == []


def test_settings_of_ddp_are_refused_where_there_is_none() -> None:
    config = SFPOConfig().framework(torch_ddp_kwargs={"bucket_cap_mb": 5})
    (problem,) = parallelism_class("fsdp").problems(
        config.learners(num_learners=2, parallelism="fsdp")
    )
    assert problem.startswith("torch_ddp_kwargs={'bucket_cap_mb': 5}: must be empty with")


def test_eight_bit_moments_of_shards_are_refused() -> None:
    (problem, *_) = [p for p in problems({"optimizer": "adamw_8bit"}) if "fsdp" in p]
    assert problem.startswith("optimizer='adamw_8bit': must be another with parallelism='fsdp'")


def test_an_optimizer_of_ones_own_says_whether_it_takes_shards() -> None:
    assert problems({"optimizer": torch.optim.NAdam}) == []
    whole = OptimizerSpec(torch.optim.NAdam, shardable=False)
    (problem,) = problems({"optimizer": whole})
    assert problem.startswith(f"optimizer={whole!r}: must be another with parallelism='fsdp'")


def test_an_adapter_is_not_sharded() -> None:
    config = SFPOConfig().rl_module(model_config={"model": "x", "lora": {"r": 4}})
    config.learners(num_learners=2, parallelism="fsdp")
    (problem,) = [p for p in config.cheap_problems() if "fsdp" in p]
    assert problem.startswith("model_config['lora']={'r': 4}: must be None with parallelism='fsdp'")


def test_a_learner_class_that_cannot_share_is_refused() -> None:
    (problem,) = problems(learner_class=GRPOTorchLearner)
    assert problem == (
        "learner_class=GRPOTorchLearner: must be a subclass of FSDPTorchLearner with "
        "parallelism='fsdp'"
    )
    own = type("OwnLearner", (FSDPTorchLearner,), {})
    assert problems(learner_class=own) == []


def test_what_was_chosen_before_the_learner_class_does_not_matter() -> None:
    assert SFPOConfig().learner_class is GRPOTorchLearner
    assert SFPOConfig().learners(parallelism="fsdp").learner_class is FSDPTorchLearner
