"""Bad input to the learner gets one clear error, word for word; nothing of a user's is ignored."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

import gymnasium as gym
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from refusals import problems_of

from sfpo_rllib import GRPOConfig, SFPOConfig, with_update_rule
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.causal_lm import ATTENTION_MASK, INPUT_IDS, LOSS_MASK, forward_train

nothing_heavy = pytest.mark.usefixtures("nothing_heavy")


# Settings.


@nothing_heavy
def test_an_unknown_loss(good):
    assert problems_of(good.training(loss="drgrpo")) == [
        "loss='drgrpo': must be one of ['cispo', 'dapo', 'dr_grpo', 'grpo', 'gspo', 'reinforce'], "
        "a core.PolicyLoss or a function; did you mean 'dr_grpo'?"
    ]


@nothing_heavy
def test_an_optimizer_whose_package_is_missing(good, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "bitsandbytes" else found(n, *a)
    )
    assert problems_of(good.training(optimizer="adamw_8bit")) == [
        "optimizer='adamw_8bit': bitsandbytes is not installed; "
        "pip install 'bitsandbytes>=0.50', or use optimizer='adamw'"
    ]


@nothing_heavy
def test_packing_with_a_kernel_that_cannot(good, tiny_model):
    model_config = {"model": str(tiny_model), "packing": True, "attn_implementation": "eager"}
    assert problems_of(good.rl_module(model_config=model_config)) == [
        "model_config['attn_implementation']='eager': must be one of [None, 'sdpa', "
        "'flash_attention_2', 'flash_attention_3'] with packing=True; others do not keep packed "
        "sequences apart"
    ]


# A loss, or what else is a user's, together with what would bypass it.


class OwnLoss(GRPOTorchLearner):
    def compute_loss_for_module(self, *, fwd_out: dict[str, Any], **kwargs: Any) -> torch.Tensor:
        return -fwd_out["logp"].mean()


class OwnLosses(GRPOTorchLearner):
    def compute_losses(self, **kwargs: Any) -> dict[str, Any]:
        return {}


class OwnGradients(OwnLosses):
    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict:
        return {}


class AnotherLearner(TorchLearner):
    pass


class OwnPostprocessing(GRPOTorchLearner):
    def postprocess_gradients(self, gradients_dict: dict[Any, Any]) -> dict[Any, Any]:
        return super().postprocess_gradients(gradients_dict)


@nothing_heavy
@pytest.mark.parametrize(
    ("learner", "methods"),
    [
        (OwnLoss, ["compute_loss_for_module"]),
        (OwnLosses, ["compute_losses"]),
        (OwnGradients, ["compute_losses", "compute_gradients"]),
    ],
)
def test_a_learner_whose_own_loss_would_never_be_called(good, learner, methods):
    assert problems_of(good.learners(learner_class=learner)) == [
        f"learner_class={learner!r}: must not override {method}(), which is never called; use "
        "training(loss=...)"
        for method in methods
    ]


@nothing_heavy
def test_a_learner_of_another_kind(good):
    assert problems_of(good.learners(learner_class=AnotherLearner)) == [
        f"learner_class={AnotherLearner!r}: must be a subclass of GRPOTorchLearner; for another "
        "loss use training(loss=...)"
    ]


@nothing_heavy
def test_a_learner_whose_own_methods_are_called_passes(good):
    good.learners(learner_class=OwnPostprocessing).validate()


class OwnObjective(CausalLMModule, SelfSupervisedLossAPI):
    def compute_self_supervised_loss(self, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(())


@nothing_heavy
def test_a_module_whose_own_loss_would_never_be_called(good):
    good.rl_module(rl_module_spec=RLModuleSpec(module_class=OwnObjective))
    assert problems_of(good) == [
        f"rl_module_spec={OwnObjective!r}: must not have compute_self_supervised_loss(), which is "
        "never called; use training(loss=...)"
    ]


def connector(*args: Any) -> list:
    return []


@nothing_heavy
def test_a_learner_connector_that_would_never_be_called(good):
    assert problems_of(good.learners(learner_connector=connector)) == [
        f"learner_connector={connector!r}: must be None, as it is never called; use "
        "training(advantages=...) or a wrapper of the environment"
    ]


@nothing_heavy
def test_compiling_an_update_that_is_not_rllibs(good):
    assert problems_of(good.framework(torch_compile_learner=True)) == [
        "torch_compile_learner=True: must be False; the update is none of the methods that RLlib "
        "compiles"
    ]


@nothing_heavy
def test_a_gradient_scaler_that_no_loss_goes_through(good):
    scaler = torch.amp.GradScaler
    assert problems_of(good.experimental(_torch_grad_scaler_class=scaler)) == [
        f"_torch_grad_scaler_class={scaler!r}: must be None; losses are not scaled, as weights and "
        "gradients are float32"
    ]


@nothing_heavy
def test_settings_of_one_module_that_would_never_be_read(good):
    overrides = {DEFAULT_MODULE_ID: GRPOConfig.overrides(loss="gspo")}
    good.multi_agent(algorithm_config_overrides_per_module=overrides)
    assert problems_of(good) == [
        f"algorithm_config_overrides_per_module={overrides!r}: must be empty, as there is one "
        "module; set them on the config itself"
    ]


@nothing_heavy
@pytest.mark.parametrize("config_class", [GRPOConfig, SFPOConfig])
def test_a_second_update_rule_around_the_first(make_config, config_class):
    with pytest.raises(ValueError) as caught:
        with_update_rule(make_config(config_class), "lookahead")
    assert str(caught.value) == (
        f"learner_class={GRPOTorchLearner!r}: has a rule already; use training(update_rule=...)"
    )


# Modules.


def build_module(module_class: type[CausalLMModule], folder: Path) -> CausalLMModule:
    return module_class(
        observation_space=None, action_space=None, model_config={"model": str(folder)}
    )


class NoEntropy(CausalLMModule):
    def _forward_train(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> dict[str, Any]:
        return {"logp": super()._forward_train(batch)["logp"]}


class OnePerSequence(CausalLMModule):
    def _forward_train(self, batch: dict[str, torch.Tensor], **kwargs: Any) -> dict[str, Any]:
        out = super()._forward_train(batch)
        return {name: values.sum(dim=1, keepdim=True) for name, values in out.items()}


@pytest.mark.parametrize(
    ("module_class", "message"),
    [
        (
            NoEntropy,
            "rl_module_spec=NoEntropy: forward_train() must return 'entropy' of each token, shape "
            "(2, 5), as CausalLMModule's does; it returned ['logp']",
        ),
        (
            OnePerSequence,
            "rl_module_spec=OnePerSequence: forward_train() must return 'logp' of each token, "
            "shape (2, 5), as CausalLMModule's does; got (2, 1)",
        ),
    ],
)
def test_a_module_that_does_not_return_what_an_objective_needs(tiny_model, module_class, message):
    ones = torch.ones(2, 5, dtype=torch.long)
    batch = {INPUT_IDS: 3 * ones, ATTENTION_MASK: ones, LOSS_MASK: ones.bool()}
    forward_train(build_module(CausalLMModule, tiny_model), batch)
    with pytest.raises(ValueError) as caught:
        forward_train(build_module(module_class, tiny_model), batch)
    assert str(caught.value) == message


@pytest.fixture
def build_learner(make_config: Callable[..., Any]) -> Callable[..., GRPOTorchLearner]:
    """`build_learner(kl_coeff=...)`: on its own, without ray."""

    def build(**training: Any) -> GRPOTorchLearner:
        space = gym.spaces.Text(1)
        config = make_config(GRPOConfig).training(**training)
        return config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})

    return build


def test_a_kl_coefficient_without_a_reference(build_learner, monkeypatch):
    monkeypatch.delattr(CausalLMModule, "reference_logp")
    build_learner()
    with pytest.raises(ValueError) as caught:
        build_learner(kl_coeff=0.1)
    assert str(caught.value) == (
        "kl_coeff=0.1: must be 0 with CausalLMModule, which has no reference_logp()"
    )
