"""Sequences that the module is given packed."""

from pathlib import Path

import pytest
import torch
from token_batches import LENGTHS, build_module, token_batch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from sfpo_rllib.rl_modules import packing
from sfpo_rllib.rl_modules.packing import PACKED_SDPA, check_packing


def small_model(config: PreTrainedConfig, folder: Path) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


GROUPED_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
LLAMA_LIKE = {"vocab_size": 16, "hidden_size": 32, "intermediate_size": 48, **GROUPED_HEADS}
GPT2 = GPT2Config(vocab_size=16, n_positions=32, n_embd=32, n_layer=2, n_head=2)


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(**LLAMA_LIKE), Qwen2Config(**LLAMA_LIKE), GPT2],
    ids=lambda c: c.model_type,
)
def test_packed_and_padded_sequences_give_the_same_gradient(config, tmp_path):
    folder = small_model(config, tmp_path)
    batch = token_batch(LENGTHS)
    batch["loss_mask"][2, 6] = False
    outputs, gradients = [], []
    for packed in (False, True):
        module = build_module(folder, packing=packed, temperature=0.8).double()
        module.compute_dtype = torch.float64
        out = module.forward_train(batch)
        (out["logp"].exp().sum() + out["entropy"].square().sum()).backward()
        outputs.append(out)
        gradients.append({n: p.grad for n, p in module.named_parameters() if p.grad is not None})
    for name in ("logp", "entropy"):
        torch.testing.assert_close(outputs[1][name], outputs[0][name], rtol=1e-12, atol=1e-14)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("short", [0, 64], ids=["lined up in groups", "lined up together"])
@pytest.mark.parametrize(
    ("config", "dtype", "tolerance"),
    # Llama's norms are float32 whatever the model is, and sums over a group are rounded there.
    [(GPT2, torch.float64, 1e-12), (LlamaConfig(**LLAMA_LIKE), torch.float32, 1e-5)],
    ids=["float64", "float32"],
)
def test_prompts_that_are_shared_give_the_same_gradient(
    tmp_path, monkeypatch, short, config, dtype, tolerance
):
    """Two groups of three, one sequence of several turns, and one with nothing that counts."""
    monkeypatch.setattr(packing, "SHORT", short)
    folder = small_model(config, tmp_path)
    batch = token_batch([(4, 9), (4, 12), (4, 6), (3, 9), (3, 7), (3, 12), (5, 8)])
    batch["input_ids"][1:3, :4] = batch["input_ids"][0, :4]
    batch["input_ids"][4:6, :3] = batch["input_ids"][3, :3]
    batch["loss_mask"][1, 6:8] = False
    batch["loss_mask"][6] = False
    computed, results = [], []
    for packed in (False, True):
        module = build_module(folder, packing=packed, temperature=0.8).to(dtype)
        module.compute_dtype = dtype
        module.lm.base_model.register_forward_pre_hook(
            lambda _, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        out = module.forward_train(batch)
        (out["logp"].exp().sum() + out["entropy"].square().sum()).backward()
        gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        results.append({**out, **gradients})
    assert computed == [7 * 12, int(batch["attention_mask"].sum()) - 2 * 4 - 2 * 3]
    assert results[0].keys() == results[1].keys()
    for name, expected in results[0].items():
        error = (results[1][name] - expected).abs().max()
        assert error <= tolerance * expected.abs().max(), name


def test_no_padding_is_computed_where_sequences_are_packed(tiny_model, monkeypatch):
    module = build_module(tiny_model, packing=True)
    seen = []
    module.lm.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    module.forward_train(token_batch(LENGTHS))
    assert seen == [(1, sum(length for _, length in LENGTHS))]


def test_a_model_that_mixes_packed_sequences_is_refused():
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(**LLAMA_LIKE), attn_implementation=PACKED_SDPA
    )
    check_packing(model)
    model.model.layers[0].register_forward_hook(lambda _, args, output: output.cumsum(dim=1))
    with pytest.raises(ValueError, match=r"packing.*Llama"):
        check_packing(model)


def test_packing_auto_is_on_where_the_model_keeps_sequences_apart(tiny_model):
    batch = token_batch(LENGTHS)
    auto, on, off = (build_module(tiny_model, packing=how) for how in ("auto", True, False))
    assert (auto.packing, on.packing, off.packing) == (True, True, False)
    assert auto.shares_prompts and not off.shares_prompts
    assert torch.equal(auto.forward_train(batch)["logp"], on.forward_train(batch)["logp"])


@pytest.mark.parametrize("attention", [None, "eager"])
def test_packing_auto_is_off_with_a_warning_where_it_would_mix_sequences(
    tiny_model, tmp_path, monkeypatch, caplog, attention
):
    batch = token_batch(LENGTHS)
    sliding = small_model(MistralConfig(**LLAMA_LIKE, sliding_window=8), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "check_packing", refuse)
        mixing = build_module(tiny_model, packing="auto", attn_implementation=attention)
    for module, folder in (
        (mixing, tiny_model),
        (build_module(sliding, packing="auto", attn_implementation=attention), sliding),
    ):
        assert not module.packing and not module.shares_prompts
        plain = build_module(folder, attn_implementation=attention)
        expected = plain.lm.config._attn_implementation
        assert module.lm.config._attn_implementation == expected
        assert torch.equal(module.forward_train(batch)["logp"], plain.forward_train(batch)["logp"])
    # With a kernel that cannot there is nothing to try, and nothing to be warned of.
    assert ("'auto' is off" in caplog.text) == (attention is None)


def refuse(lm, *, any_length):
    raise ValueError("it mixes them")


def test_sequences_beyond_a_sliding_window_are_refused(tmp_path):
    config = MistralConfig(**LLAMA_LIKE, sliding_window=8)
    module = build_module(small_model(config, tmp_path), packing=True)
    module.forward_train(token_batch([(2, 7), (3, 8)]))
    with pytest.raises(ValueError, match="sliding window of 8"):
        module.forward_train(token_batch([(2, 9), (3, 8)]))
