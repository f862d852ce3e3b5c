"""The causal-LM module against plain transformers; its states and weights."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from token_batches import LENGTHS, build_module, token_batch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
)

from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.char_llama import build_char_llama
from sfpo_rllib.rl_modules.weights import pack_weights, unpack_weights


@torch.no_grad()
def by_transformers(
    model: PreTrainedModel, ids: torch.Tensor, prompt_len: int, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies of the tokens after the prompt of one sequence, on its own."""
    logits = model(input_ids=ids.unsqueeze(0)).logits[0, prompt_len - 1 : -1].double()
    distribution = torch.distributions.Categorical(logits=logits / temperature)
    return distribution.log_prob(ids[prompt_len:]), distribution.entropy()


@pytest.fixture(scope="module")
def untied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_char_llama(
        tmp_path_factory.mktemp("untied"),
        alphabet="0123456789+=",
        hidden_size=32,
        num_layers=2,
        tie_embeddings=False,
        seed=1,
    )


@pytest.fixture(params=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tiny_model: Path, untied_model: Path) -> Path:
    return tiny_model if request.param == "tied" else untied_model


@pytest.mark.parametrize("whole_logits", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_entropies_are_those_of_transformers(folder, temperature, whole_logits):
    module = build_module(folder, temperature=temperature)
    assert module._head_is_all
    if whole_logits:  # the way of models whose logits are not their output layer's alone
        module._head_is_all = False
    model = AutoModelForCausalLM.from_pretrained(folder)
    batch = token_batch(LENGTHS)
    out = module.forward_train(batch)
    for row, (prompt, length) in enumerate(LENGTHS):
        logp, entropy = by_transformers(
            model, batch["input_ids"][row, :length], prompt, temperature
        )
        for name, expected in (("logp", logp), ("entropy", entropy)):
            actual = out[name][row, prompt:length].double()
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert out["logp"].shape == out["entropy"].shape == batch["input_ids"].shape
    assert out["logp"].dtype == torch.float32
    assert out["logp"].requires_grad and out["entropy"].requires_grad


def test_nothing_is_said_of_tokens_that_do_not_count(tiny_model):
    batch = token_batch([(5, 9), (7, 8)])
    batch["loss_mask"][0, 6] = False  # of the environment, between two turns
    for values in build_module(tiny_model).forward_train(batch).values():
        assert torch.equal(values != 0, batch["loss_mask"])


def test_a_model_that_caps_its_logits_is_trained_on_capped_ones(tmp_path):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        final_logit_softcapping=0.5,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    batch = token_batch([(3, 9)])
    out = build_module(tmp_path).forward_train(batch)
    expected, _ = by_transformers(model, batch["input_ids"][0], 3, 1.0)
    torch.testing.assert_close(out["logp"][0, 3:].double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("column", [0, None], ids=["the first token", "no token"])
def test_masks_at_the_edge_are_taken(tiny_model, column):
    batch = token_batch([(2, 6), (2, 6)])
    batch["loss_mask"].zero_()
    if column is not None:
        batch["loss_mask"][:, column] = True
    out = build_module(tiny_model).forward_train(batch)
    assert out["logp"].shape == (2, 6)
    assert torch.isfinite(out["logp"]).all()


# The reference, where it is asked for, and the entropy's gradient.


def test_the_reference_stays_the_model_as_it_was_loaded_and_is_no_part_of_the_state(folder):
    module = build_module(folder, holds_reference=True, temperature=0.7)
    batch = token_batch(LENGTHS)
    start = module.forward_train(batch)["logp"].detach()
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=10.0)
    module.forward_train(batch)["logp"].sum().backward()
    optimizer.step()
    reference = module.reference_logp(batch)
    assert torch.equal(reference, start)
    assert not torch.allclose(module.forward_train(batch)["logp"], start)
    assert not reference.requires_grad
    assert not any(param.requires_grad for param in module.reference.parameters())
    plain = build_module(folder)
    assert module.get_state().keys() == plain.get_state().keys()
    assert module.weights().keys() == plain.weights().keys()


def test_a_module_that_holds_no_reference_says_so(tiny_model):
    module = build_module(tiny_model)
    assert module.reference is None
    with pytest.raises(ValueError, match="holds_reference=False: must be True"):
        module.reference_logp(token_batch(LENGTHS))


def test_the_gradient_of_the_entropy_is_that_of_transformers(tiny_model):
    module = build_module(tiny_model)
    batch = token_batch([(3, 9)])
    entropy = module.forward_train(batch)["entropy"].sum()
    entropy.backward()
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    logits = model(input_ids=batch["input_ids"]).logits[0, 2:-1].double()
    torch.distributions.Categorical(logits=logits).entropy().sum().backward()
    expected = dict(model.named_parameters())
    for name, param in module.lm.named_parameters():
        torch.testing.assert_close(param.grad, expected[name].grad, rtol=1e-4, atol=1e-5)


# States.


def other_weights(module: CausalLMModule) -> None:
    """Moves every weight."""
    with torch.no_grad():
        for i, param in enumerate(module.parameters()):
            param.add_(0.01 * (i + 1))


def test_a_state_carries_every_weight_and_ties_survive(folder, tiny_model):
    source, target = build_module(folder), build_module(folder)
    other_weights(source)
    target.set_state(source.get_state())
    for name, tensor in source.weights().items():
        assert torch.equal(tensor, target.weights()[name]), name
    tied = folder == tiny_model
    inputs, outputs = target.lm.get_input_embeddings(), target.lm.get_output_embeddings()
    assert (inputs.weight is outputs.weight) == tied
    assert ("lm_head.weight" in source.get_state()) != tied
    names = set(AutoModelForCausalLM.from_pretrained(folder).state_dict())
    assert set(target.weights()) == names


def test_a_state_is_a_copy_in_numpy_arrays(tiny_model):
    module = build_module(tiny_model)
    state = module.get_state()
    before = {name: array.copy() for name, array in state.items()}
    other_weights(module)
    assert all(array.dtype == np.float32 for array in state.values())
    assert all(np.array_equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("model.norm.weight"),
        lambda state: state.update({"model.nonsense": np.zeros(1, np.float32)}),
        lambda state: state.update({"model.norm.weight": np.zeros(3, np.float32)}),
    ],
    ids=["missing", "unknown", "of another shape"],
)
def test_a_state_of_another_model_is_refused_and_changes_nothing(
    tiny_model, spoil: Callable[[dict], object]
):
    module = build_module(tiny_model)
    state = {name: array + 1.0 for name, array in module.get_state().items()}
    spoil(state)
    before = {name: tensor.clone() for name, tensor in module.weights().items()}
    with pytest.raises(ValueError, match=r"1 weights missing, .*model\.(norm\.weight|nonsense)"):
        module.set_state(state)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.weights().items())


def test_weights_that_are_not_float32_once_loaded_are_refused(tiny_model, monkeypatch):
    """As those of a quantized model are, which nothing could train."""
    load = AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *a, **k: load(*a, **k).to(torch.bfloat16)
    )
    with pytest.raises(ValueError, match=r"model_config\['model'\].*are torch\.bfloat16"):
        build_module(tiny_model)


def test_a_failing_set_up_keeps_its_cause(tiny_model, monkeypatch):
    def broken(self: CausalLMModule) -> None:
        raise AttributeError("no such attention")

    monkeypatch.setattr(CausalLMModule, "_setup", broken)
    with pytest.raises(RuntimeError, match="no such attention"):
        build_module(tiny_model)


# Precision.


def loss_of(module: CausalLMModule) -> torch.Tensor:
    batch = token_batch(LENGTHS)
    out = module.forward_train(batch)
    return torch.where(batch["loss_mask"], out["logp"], 0.0).sum()


def test_bfloat16_computes_with_float32_masters_and_gradients(tiny_model):
    full, half = build_module(tiny_model), build_module(tiny_model, dtype="bfloat16")
    losses = [loss_of(module) for module in (full, half)]
    assert losses[1].dtype == torch.float32
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-2, atol=0)
    losses[1].backward()
    for name, param in half.named_parameters():
        assert param.dtype == param.grad.dtype == torch.float32, name
        assert torch.equal(param, full.get_parameter(name))
    # A step that bfloat16 could not hold.
    weight = half.lm.model.norm.weight
    with torch.no_grad():
        weight.fill_(1.0).add_(1e-6)
    assert (half.weights()["model.norm.weight"] > 1.0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_engines_get_a_cast_of_the_masters_each_weight_once(folder, dtype):
    module = build_module(folder, dtype=dtype)
    other_weights(module)
    received = unpack_weights(module.get_state(inference_only=True))
    assert received.keys() == module.get_state().keys()
    for name, tensor in received.items():
        assert torch.equal(tensor, module.weights()[name].to(getattr(torch, dtype))), name


def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients(tiny_model):
    gradients, calls = [], []
    for checkpointing in (False, True):
        module = build_module(tiny_model, gradient_checkpointing=checkpointing)
        count = 0

        def counting(*args: Any) -> None:
            nonlocal count
            count += 1

        module.lm.model.layers[0].mlp.register_forward_pre_hook(counting)
        loss_of(module).backward()
        gradients.append({name: p.grad for name, p in module.named_parameters()})
        calls.append(count)
    assert calls == [1, 2]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-6, atol=1e-8)


SMALL = {"vocab_size": 15, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
WITH_DROPOUT = [
    LlamaConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        attention_dropout=0.5,
        **SMALL,
    ),
    GPT2Config(
        n_embd=32, n_layer=1, n_head=1, attn_pdrop=0.5, embd_pdrop=0.5, resid_pdrop=0.5, **SMALL
    ),
    OPTConfig(
        hidden_size=32,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        word_embed_proj_dim=32,
        dropout=0.5,
        attention_dropout=0.5,
        **SMALL,
    ),
]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("config", WITH_DROPOUT, ids=lambda config: config.model_type)
def test_dropout_stays_off_as_it_is_in_the_engine(tmp_path, config, checkpointing):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    module = build_module(tmp_path, gradient_checkpointing=checkpointing)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    batch = token_batch([(3, 9)])
    expected, _ = by_transformers(model, batch["input_ids"][0], 3, 1.0)
    for _ in range(2):
        actual = module.forward_train(batch)["logp"][0, 3:].double()
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


# The way to the engines.

SPECIAL = [0.0, -0.0, 1e-45, -1e-40, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 1.0 + 2**-20]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packing_and_unpacking_is_bitwise_the_cast(dtype):
    values = torch.tensor(SPECIAL)
    tensors = {
        "special": values,
        "transposed": torch.randn(3, 4).T,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "already": values.to(dtype),
    }
    payload = pickle.loads(pickle.dumps(pack_weights(tensors, dtype)))
    received = unpack_weights(payload)
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert received.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.to(dtype)
        assert received[name].dtype == dtype
        assert received[name].shape == expected.shape
        assert torch.equal(received[name].view(bits), expected.contiguous().view(bits)), name


def test_the_payload_is_plain_numpy_and_what_is_unpacked_owns_its_memory():
    payload = pack_weights({"w": torch.ones(3)}, torch.bfloat16)
    np.save(io.BytesIO(), payload["tensors"]["w"], allow_pickle=False)
    array = payload["tensors"]["w"] = payload["tensors"]["w"].copy()
    array.flags.writeable = False  # as pages of the object store are
    unpack_weights(payload)["w"].zero_()
    assert torch.equal(unpack_weights(payload)["w"], torch.ones(3, dtype=torch.bfloat16))


def test_what_is_unpacked_without_a_copy_is_the_page_itself(recwarn):
    payload = pack_weights({"w": torch.ones(3)}, torch.bfloat16)
    array = payload["tensors"]["w"] = payload["tensors"]["w"].copy()
    array.flags.writeable = False
    tensor = unpack_weights(payload, copy=False)["w"]
    assert tensor.data_ptr() == array.ctypes.data and tensor.dtype == torch.bfloat16
    assert not recwarn.list
