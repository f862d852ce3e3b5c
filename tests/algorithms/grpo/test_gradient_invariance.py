"""One gradient, however a mini-batch is cut, ordered, padded, packed and computed.

The learner's own way, from the rollout batch to the parameters' gradients: its partition, forward
passes of policy and reference, objective and backward passes. Compared with a single micro-batch,
padded, through whole logits, without checkpointing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

import gymnasium as gym
from ray.rllib.core import DEFAULT_MODULE_ID

from sfpo_rllib import GRPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import START_LOGP, GRPOTorchLearner
from sfpo_rllib.core import LOSSES
from sfpo_rllib.rl_modules import token_logprobs
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
    CausalLMModule,
)

Gradients = dict[str, torch.Tensor]

# The greatest difference of a parameter's gradient, relative to the greatest entry in it.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}

# Prompt length and length of each sequence. The fifth has no reply, the last two are as long as
# others, and the third has an environment's turn in it.
LENGTHS = [(3, 9), (1, 12), (6, 37), (4, 16), (5, 5), (1, 2), (2, 23), (3, 12), (7, 23)]
NO_TIES = LENGTHS[:-2]
ENVIRONMENTS_TURN = slice(14, 25)

OBJECTIVES: dict[str, dict[str, Any]] = {
    **{name: {"loss": name} for name in LOSSES},
    "grpo over sequences, with KL and entropy bonus": {
        "loss": "grpo",
        "loss_aggregation": "sequence",
        "kl_coeff": 0.2,
        "entropy_coeff": 0.1,
    },
    "dapo, with KL by k2 and a mask over sequences": {
        "loss": "dapo",
        "kl_coeff": 0.2,
        "kl_estimator": "k2",
        "engine_correction": "sequence_mask",
        "engine_ratio_cap": 1.1,  # so that some are masked
        "engine_ratio_floor": 0.9,
    },
    "gspo, with an entropy bonus": {"loss": "gspo", "entropy_coeff": 0.1},
}


@dataclass(frozen=True)
class Way:
    """How a gradient is computed."""

    tokens: int = 10_000  # of a micro-batch
    model_config: dict[str, Any] = field(default_factory=dict)
    chunk: int | None = None  # tokens whose logits exist at once
    whole_logits: bool = False
    order: int | None = None  # seed of a permutation of the sequences
    padding: int = 0  # more columns


PACKED, CHECKPOINTED = {"packing": True}, {"gradient_checkpointing": True}
REFERENCE = Way(whole_logits=True)
WAYS = {
    "a head in one chunk": Way(),
    "chunks of 1 token": Way(chunk=1),
    "chunks of 7 tokens": Way(chunk=7),
    "each sequence alone": Way(tokens=1),
    "micro-batches of 40 tokens": Way(tokens=40),
    "micro-batches of 100 tokens": Way(tokens=100, chunk=50),
    "another order": Way(order=1),
    "another order in micro-batches": Way(order=2, tokens=60),
    "packed": Way(model_config=PACKED),
    "packed in micro-batches": Way(model_config=PACKED, tokens=40),
    "packed in another order": Way(model_config=PACKED, order=3, tokens=70),
    "checkpointed": Way(model_config=CHECKPOINTED),
    "whole logits in micro-batches": Way(whole_logits=True, tokens=40),
    "all at once": Way(model_config=PACKED | CHECKPOINTED, chunk=3, order=4, tokens=50, padding=9),
}
# Here the same numbers are added up in the same order.
SAME_OPERATIONS = {
    "checkpointed": (Way(), Way(model_config=CHECKPOINTED)),
    "checkpointed, in chunks": (Way(chunk=7), Way(chunk=7, model_config=CHECKPOINTED)),
    "checkpointed, packed": (Way(model_config=PACKED), Way(model_config=PACKED | CHECKPOINTED)),
    "columns of padding": (Way(tokens=60), Way(tokens=60, padding=11)),
    "another order of unequal lengths": (Way(tokens=60), Way(tokens=60, order=5)),
    "packed, another order of unequal lengths": (
        Way(tokens=60, model_config=PACKED),
        Way(tokens=60, model_config=PACKED, order=5),
    ),
    "a chunk with room to spare": (Way(chunk=200), Way(chunk=1000)),
}


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spread_of(settings: dict[str, Any]) -> float:
    """How far ratios are spread, so that they fall on both sides of the loss's clips."""
    return {"gspo": 2e-3, "cispo": 1.5}.get(settings["loss"], 0.3)


def rollouts(lengths: list[tuple[int, int]], logp: torch.Tensor, spread: float) -> dict[str, Any]:
    """A batch as the learner is given it, near the policy whose log-probs are given."""
    shape = logp.shape
    prompt, length = torch.tensor(lengths).T.unsqueeze(-1)
    positions = torch.arange(shape[1])
    mask = (positions >= prompt) & (positions < length)
    mask[2, ENVIRONMENTS_TURN] = False
    start = logp + spread * normal(*shape, seed=1)
    ids = torch.randint(3, 15, shape, generator=torch.Generator().manual_seed(0))
    return {
        INPUT_IDS: ids,  # also where there is padding, which must not matter
        ATTENTION_MASK: (positions < length).long(),
        LOSS_MASK: mask,
        START_LOGP: start,
        BEHAVIOUR_LOGP: start + 0.4 * normal(*shape, seed=2),
        ADVANTAGES: normal(shape[0], seed=3),
    }


@pytest.fixture(scope="module")
def learner_of() -> Callable[[GRPOConfig, torch.dtype], GRPOTorchLearner]:
    """`learner_of(config, dtype)`: one learner for all objectives and cuts of micro-batches."""
    learners: dict[str, GRPOTorchLearner] = {}

    def get(config: GRPOConfig, dtype: torch.dtype) -> GRPOTorchLearner:
        with_reference = bool(config.kl_coeff)
        key = repr((config.model_config, dtype, config.train_batch_size_per_learner))
        key += repr(with_reference)
        if key not in learners:
            space = gym.spaces.Text(1)
            learners[key] = config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})
            in_dtype(learners[key], dtype)
        learner = learners[key]
        learner.config = config
        learner._objective = config.make_objective()
        return learner

    return get


@pytest.fixture
def gradients_by(
    tiny_model: Path,
    learner_of: Callable[[GRPOConfig, torch.dtype], GRPOTorchLearner],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Way, dict[str, Any], torch.dtype], Gradients]:
    """`gradients_by(way, settings, dtype)`: those of a ragged batch, by the parameters' names."""

    def make(
        way: Way,
        settings: dict[str, Any],
        dtype: torch.dtype,
        lengths: list[tuple[int, int]] = LENGTHS,
    ) -> Gradients:
        config = (
            GRPOConfig()
            .rl_module(model_config={"model": str(tiny_model), **way.model_config})
            .env_runners(sampling={"max_tokens": 40, "temperature": 0.8})
            .training(
                # Steps of nothing, so that the gradients are still there and not clipped.
                optimizer="sgd",
                lr=0.0,
                grad_clip=None,
                train_batch_size_per_learner=len(lengths),
                max_tokens_per_micro_batch=way.tokens,
                **settings,
            )
        )
        learner = learner_of(config, dtype)
        module = learner.module[DEFAULT_MODULE_ID].unwrapped()
        columns = rollouts(lengths, policys_logp(module, lengths), spread_of(settings))
        with monkeypatch.context() as patch:
            if way.whole_logits:
                patch.setattr(module, "_head_is_all", False)
            if way.chunk is not None:
                vocab = module.lm.get_output_embeddings().out_features
                patch.setattr(token_logprobs, "CHUNK_ELEMENTS", way.chunk * vocab)
            learner._update({DEFAULT_MODULE_ID: rearranged(columns, way, dtype)})
        return {name: param.grad.clone() for name, param in module.lm.named_parameters()}

    return make


def in_dtype(learner: GRPOTorchLearner, dtype: torch.dtype) -> None:
    """Has the learner's module in that dtype, its policy moved away from its reference."""
    module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    with torch.no_grad():
        for i, param in enumerate(module.lm.parameters()):
            param.add_(0.02 * normal(*param.shape, seed=100 + i).to(param.dtype))
    module.to(dtype)
    module.compute_dtype = dtype


@torch.no_grad()
def policys_logp(module: CausalLMModule, lengths: list[tuple[int, int]]) -> torch.Tensor:
    """The same for every way: one pass, as the module is before the way is set up."""
    shape = len(lengths), max(length for _, length in lengths)
    columns = rollouts(lengths, torch.zeros(shape), spread=0.0)
    return module.forward_train(columns)["logp"].double()


def rearranged(columns: dict[str, Any], way: Way, dtype: torch.dtype) -> dict[str, Any]:
    """In the way's order, with its padding, log-probs and advantages in that dtype."""
    result = {}
    for name, column in columns.items():
        if way.order is not None:
            generator = torch.Generator().manual_seed(way.order)
            column = column[torch.randperm(len(column), generator=generator)]
        if way.padding and column.ndim > 1:
            column = torch.nn.functional.pad(column, (0, way.padding))
        result[name] = column.to(dtype) if column.is_floating_point() else column
    return result


def greatest_error(gradients: Gradients, expected: Gradients) -> float:
    """Of any parameter, relative to the greatest entry of its gradient."""
    assert gradients.keys() == expected.keys()
    return max(
        float((gradients[name] - gradient).abs().max() / gradient.abs().max())
        for name, gradient in expected.items()
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_is_the_same_whatever_way_it_is_computed(
    gradients_by, objective, dtype, record_property
):
    settings = OBJECTIVES[objective]
    expected = gradients_by(REFERENCE, settings, dtype)
    assert all(gradient.abs().max() > 1e-6 for gradient in expected.values())
    errors = {
        name: greatest_error(gradients_by(way, settings, dtype), expected)
        for name, way in WAYS.items()
    }
    record_property("errors", errors)
    assert {n: e for n, e in errors.items() if not e < TOLERANCE[dtype]} == {}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("ways", SAME_OPERATIONS)
def test_the_gradient_is_bit_equal_where_the_operations_are_the_same(gradients_by, ways, dtype):
    settings = OBJECTIVES["grpo over sequences, with KL and entropy bonus"]
    one, other = (gradients_by(way, settings, dtype, NO_TIES) for way in SAME_OPERATIONS[ways])
    for name, gradient in one.items():
        assert torch.equal(other[name], gradient), name
