"""Entropies of RLlib's policies, against torch's closed forms and long samples."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from ray.rllib.algorithms.sac.sac_learner import ACTION_PROBS
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDeterministic,
    TorchDiagGaussian,
    TorchMultiCategorical,
    TorchSquashedGaussian,
)

from sfpo_rllib.algorithms.with_update_rule.policy_entropy import policy_entropy

LOGITS = torch.tensor([[0.0, 1.0, -2.0, 0.5], [3.0, 0.0, 0.0, -1.0]])


def entropy_of(distribution: Any, inputs: torch.Tensor) -> torch.Tensor | None:
    module: Any = SimpleNamespace(get_train_action_dist_cls=lambda: distribution)
    return policy_entropy(module, {Columns.ACTION_DIST_INPUTS: inputs})


def categorical(logits: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=logits).entropy()


def gaussian(inputs: torch.Tensor) -> torch.Tensor:
    mean, log_std = inputs.chunk(2, dim=-1)
    return torch.distributions.Normal(mean, log_std.exp()).entropy().sum(-1)


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (TorchCategorical, categorical(LOGITS)),
        (TorchDiagGaussian, gaussian(LOGITS)),
        (
            TorchMultiCategorical.get_partial_dist_cls(input_lens=[1, 3]),
            categorical(LOGITS[:, 1:]),
        ),
    ],
    ids=["categorical", "gaussian", "multi_categorical"],
)
def test_closed_forms_are_exact(distribution: Any, expected: torch.Tensor) -> None:
    torch.testing.assert_close(entropy_of(distribution, LOGITS), expected)


def test_a_squashed_gaussians_entropy_is_estimated_without_a_bias() -> None:
    """A narrow one around 0 is a Gaussian, as tanh is the identity there."""
    narrow = torch.tensor([0.0, 0.0, -4.0, -4.0])
    entropy = entropy_of(TorchSquashedGaussian, narrow.expand(20_000, 4))
    assert entropy is not None
    assert entropy.shape == (20_000,)
    assert entropy.mean().item() == pytest.approx(gaussian(narrow).item(), abs=0.05)


def test_an_estimate_leaves_the_random_numbers_of_training_alone() -> None:
    before = torch.get_rng_state()
    entropy_of(TorchSquashedGaussian, LOGITS)
    assert torch.equal(torch.get_rng_state(), before)


def test_probabilities_will_do_and_may_be_0() -> None:
    """SAC with discrete actions returns them instead."""
    probs = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    entropy = policy_entropy(SimpleNamespace(), {ACTION_PROBS: probs})  # type: ignore[arg-type]
    torch.testing.assert_close(entropy, categorical(torch.tensor([[0.0, -1e9], [0.0, 0.0]])))


def test_where_there_is_no_distribution_or_it_has_no_entropy_there_is_none() -> None:
    assert policy_entropy(SimpleNamespace(), {"qf_preds": LOGITS}) is None  # type: ignore[arg-type]
    deterministic = SimpleNamespace(from_logits=TorchDeterministic)
    assert entropy_of(deterministic, LOGITS) is None
