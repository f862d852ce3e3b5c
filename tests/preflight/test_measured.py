"""What is estimated, against what is measured."""

import importlib.util
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

pytest.importorskip("ray")

from qwen import QWEN_7B

from benchmarks.overhead.memory import cpu_peak_bytes
from sfpo_rllib.core import UPDATE_RULES, UpdateContext, anchor
from sfpo_rllib.core.optimizers import OPTIMIZERS, hidden_matrices, make_optimizer
from sfpo_rllib.preflight import (
    LearnerSettings,
    learner_memory,
    measure_footprint,
)
from sfpo_rllib.rl_modules import CausalLMModule, footprint
from sfpo_rllib.rl_modules.causal_lm import ATTENTION_MASK, INPUT_IDS, LOGP, LOSS_MASK

# Of the estimate to the measured peak of a pass, either way.
FACTOR = 1.25


def config_of(values: dict[str, Any]) -> PretrainedConfig:
    values = dict(values)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def real_model(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in OPTIMIZERS),
        ("sgd", {"momentum": 0.9}),
        ("adamw", {"amsgrad": True}),
    ],
)
def test_weights_gradients_moments_and_snapshot_are_the_real_ones_to_the_byte(
    tiny_model: Path, name: str, settings: dict[str, Any]
) -> None:
    model = real_model(tiny_model)
    sizes = measure_footprint(model.config, length=64, optimizer=name, optimizer_kwargs=settings)
    memory = learner_memory(sizes, LearnerSettings(optimizer=name, parameter_copies=1))
    weights = sum(p.nbytes for p in model.parameters())
    snapshot = anchor.Anchor(model.parameters())
    assert memory.masters == memory.gradients == weights
    assert memory.snapshot == sum(origin.nbytes for _, origin in snapshot.pairs())
    if "8bit" in name and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs bitsandbytes")
    optimizer = make_optimizer(
        name, model.parameters(), matrices=hidden_matrices(model), settings=settings
    )
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    tensors = {
        id(t): t
        for moments in optimizer.state.values()
        for t in moments.values()
        if isinstance(t, torch.Tensor) and t.ndim > 0  # not the counters of steps
    }
    assert sizes.optimizer_bytes == sum(t.nbytes for t in tensors.values())


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_rules_hold_as_many_copies_as_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[anchor.Anchor] = weakref.WeakSet()
    most = 0
    init = anchor.Anchor.__init__

    def counted(self: anchor.Anchor, parameters: Any, **kwargs: Any) -> None:
        nonlocal most
        init(self, parameters, **kwargs)
        alive.add(self)
        most = max(most, len(alive))

    monkeypatch.setattr(anchor.Anchor, "__init__", counted)
    rule = UPDATE_RULES[name]()
    weight = torch.nn.Parameter(torch.ones(3))
    rule.update(UpdateContext([weight], [], lambda batch=None: weight.data.mul_(0.9)))
    assert rule.parameter_copies == most


LORA = {"r": 4, "target_modules": "all-linear"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_held_for_an_adapter_is_the_real_one_to_the_byte(
    tiny_model: Path, dtype: str
) -> None:
    pytest.importorskip("peft")
    module = CausalLMModule(
        observation_space=None,
        action_space=None,
        model_config={"model": str(tiny_model), "lora": LORA, "dtype": dtype},
    )
    adapter = [p for p in module.parameters() if p.requires_grad]
    base = [p for p in module.parameters() if not p.requires_grad]
    compute = module.compute_dtype
    sizes = measure_footprint(
        AutoConfig.from_pretrained(tiny_model), length=64, compute_dtype=compute, lora=LORA
    )
    memory = learner_memory(
        sizes, LearnerSettings(parameter_copies=1, num_learners=2, compute_bytes=compute.itemsize)
    )
    assert memory.frozen == sum(p.nbytes for p in base)
    trained = sum(p.nbytes for p in adapter)
    assert memory.masters == memory.gradients == memory.buckets == trained
    snapshot = anchor.Anchor(adapter)
    assert memory.snapshot == sum(origin.nbytes for _, origin in snapshot.pairs())
    optimizer = make_optimizer("adamw", adapter)
    for param in adapter:
        param.grad = torch.ones_like(param)
    optimizer.step()
    moments = [m for state in optimizer.state.values() for m in state.values() if m.ndim > 0]
    assert memory.optimizer_state == sum(m.nbytes for m in moments)
    assert memory.resident == memory.frozen + 6 * trained


SHAPE = {"hidden_size": 64, "num_layers": 4, "max_length": 256}


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With 2,000 tokens, so that layers and logits both count."""
    from sfpo_rllib.rl_modules.char_llama import build_char_llama

    letters = "".join(chr(0x4E00 + i) for i in range(2000))
    return build_char_llama(tmp_path_factory.mktemp("small"), alphabet=letters, **SHAPE)


# Every two of them stand together.
@pytest.mark.parametrize(
    ("dtype", "checkpointing", "lora"),
    [
        ("float32", False, None),
        ("float32", True, LORA),
        ("bfloat16", False, LORA),
        ("bfloat16", True, None),
    ],
)
def test_a_pass_takes_what_is_estimated_within_a_stated_factor(
    small_model: Path, dtype: str, checkpointing: bool, lora: dict[str, Any] | None
) -> None:
    import gymnasium as gym

    if lora:
        pytest.importorskip("peft")

    module = CausalLMModule(
        observation_space=gym.spaces.Discrete(1),
        action_space=gym.spaces.Discrete(1),
        model_config={
            "model": str(small_model),
            "dtype": dtype,
            "gradient_checkpointing": checkpointing,
            "lora": lora,
        },
    )
    tokens = (8, 128)
    batch = {
        INPUT_IDS: torch.randint(5, 1000, tokens),
        ATTENTION_MASK: torch.ones(tokens, dtype=torch.long),
        LOSS_MASK: torch.ones(tokens, dtype=torch.bool),
    }
    for param in module.parameters():
        if param.requires_grad:
            param.grad = torch.zeros_like(param)
    measured = cpu_peak_bytes(lambda: module.forward_train(batch)[LOGP].sum().backward())
    sizes = measure_footprint(
        module.lm.config,
        lora=lora,
        length=tokens[1],
        compute_dtype=module.compute_dtype,
        gradient_checkpointing=checkpointing,
    )
    memory = learner_memory(
        sizes,
        LearnerSettings(
            micro_batch_tokens=tokens[0] * tokens[1],
            compute_bytes=module.compute_dtype.itemsize,
            on_gpu=False,
        ),
    )
    total = memory.compute_weights + memory.activations + memory.logits
    assert 1 / FACTOR < total / measured < FACTOR, (total, measured)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_that_are_not_traced_count_as_the_traced_ones(checkpointing: bool) -> None:
    """4 layers from the first 2 equal a trace through all 4."""
    values = {
        **QWEN_7B,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 4,
        "vocab_size": 100,
    }
    kwargs = {"length": 512, "gradient_checkpointing": checkpointing}
    some = measure_footprint(config_of(values), **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(footprint, "TRACED_LAYERS", (4,))
        every = measure_footprint(config_of(values), **kwargs)
    assert some.held_per_token == pytest.approx(every.held_per_token, rel=0.02)
    assert some.peak_per_token == pytest.approx(every.peak_per_token, rel=0.05)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "gemma2", "mistral", "qwen3"])
def test_other_architectures_are_traced_too(kind: str) -> None:
    model = AutoConfig.for_model(kind, num_hidden_layers=3, vocab_size=1000)
    result = measure_footprint(model, length=1024)
    values = 4 * 3 * model.hidden_size
    # A layer keeps some ten to a hundred values for each of its width.
    assert 10 * values < result.held_per_token < 200 * values
    assert result.peak_per_token >= result.held_per_token
