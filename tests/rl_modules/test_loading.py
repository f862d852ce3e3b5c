"""One process reads a checkpoint, and the others get the weights from it."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig, PreTrainedConfig

pytest.importorskip("ray")

from token_batches import build_module, token_batch

from sfpo_rllib.rl_modules import packing
from sfpo_rllib.rl_modules.causal_lm import CausalLMModule
from sfpo_rllib.rl_modules.loading import frozen_copy, read_once

CPU = torch.device("cpu")
SMALL = {"vocab_size": 15, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
OTHERS = [
    GPT2Config(n_embd=32, n_layer=2, n_head=2, **SMALL),
    MixtralConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
        **SMALL,
    ),
]


@pytest.fixture
def in_two_processes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[CausalLMModule]]:
    """Builds and fills a module as the first process would, and as a second one would."""

    def build(folder: Path, **model_config: Any) -> list[CausalLMModule]:
        on_the_way: deque[torch.Tensor] = deque()
        modules = []
        for is_first in (True, False):

            def broadcast(tensor: torch.Tensor, src: int, is_first: bool = is_first) -> None:
                assert src == 0
                if is_first:
                    on_the_way.append(tensor.clone())
                else:
                    tensor.copy_(on_the_way.popleft())

            monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
            with read_once(is_first=is_first):
                module = build_module(folder, **model_config)
            assert all(p.is_meta != is_first for p in module.parameters())
            module.fill(CPU)
            modules.append(module)
        assert not on_the_way
        return modules

    return build


def assert_same(one: CausalLMModule, other: CausalLMModule) -> None:
    for kind in ("named_parameters", "named_buffers"):
        tensors = dict(getattr(one, kind)())
        assert dict(getattr(other, kind)()).keys() == tensors.keys()
        for name, tensor in getattr(other, kind)():
            assert torch.equal(tensor, tensors[name]) and tensor.dtype == tensors[name].dtype, name
            assert tensor.requires_grad == tensors[name].requires_grad, name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("how", [False, "auto"])
def test_a_process_that_reads_nothing_has_the_module_of_the_one_that_does(
    tiny_model, in_two_processes, dtype, how
):
    settings = {"dtype": dtype, "packing": how, "holds_reference": True}
    first, second = in_two_processes(tiny_model, **settings)
    assert_same(first, second)
    assert second.lm.lm_head.weight is second.lm.model.embed_tokens.weight  # tied
    batch = token_batch([(3, 9), (2, 5)])
    alone = build_module(tiny_model, **settings)
    for module in (first, second):
        for name, values in alone.forward_train(batch).items():
            assert torch.equal(module.forward_train(batch)[name], values), name
        assert torch.equal(module.reference_logp(batch), alone.reference_logp(batch))


def test_where_the_first_process_finds_that_packing_mixes_sequences_none_packs(
    tiny_model, in_two_processes, monkeypatch
):
    def refuse(lm: Any, *, any_length: bool) -> None:
        raise ValueError("it mixes them")

    monkeypatch.setattr(packing, "check_packing", refuse)
    modules = in_two_processes(tiny_model, packing="auto")
    plain, batch = build_module(tiny_model), token_batch([(3, 9), (2, 5)])
    for module in modules:
        assert not module.packing
        assert torch.equal(module.forward_train(batch)["logp"], plain.forward_train(batch)["logp"])


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config.model_type)
def test_other_families_too(tmp_path, in_two_processes, config: PreTrainedConfig):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    first, second = in_two_processes(tmp_path)
    assert_same(first, second)
    batch = token_batch([(3, 9), (2, 5)])
    expected = build_module(tmp_path).forward_train(batch)["logp"]
    assert torch.equal(second.forward_train(batch)["logp"], expected)


def test_an_adapter_too(tiny_model, in_two_processes):
    pytest.importorskip("peft")
    lora = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
    first, second = in_two_processes(tiny_model, lora=lora, dtype="bfloat16")
    assert_same(first, second)
    assert second.weights().keys() == first.weights().keys()


def test_what_the_reader_finds_out_of_the_model_all_know(tmp_path, in_two_processes):
    """Logits that are more than the output layer's, which takes weights to see."""
    from transformers import Gemma2Config

    config = Gemma2Config(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        final_logit_softcapping=0.1,
        **SMALL,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    first, second = in_two_processes(tmp_path)
    batch = token_batch([(3, 9)])
    expected = first.forward_train(batch)["logp"]
    assert torch.equal(second.forward_train(batch)["logp"], expected)


def test_a_module_of_the_users_that_looks_at_weights_reads_them(tiny_model):
    class Looking(CausalLMModule):
        def setup(self) -> None:
            super().setup()
            self.largest = max(float(p.detach().abs().max()) for p in self.lm.parameters())

    with read_once(is_first=False):
        module = Looking(
            observation_space=None, action_space=None, model_config={"model": str(tiny_model)}
        )
    assert module.largest > 0 and not module.is_read_once


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config.model_type)
def test_a_reference_in_bfloat16_computes_what_one_in_float32_does(config: PreTrainedConfig):
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config).eval()
    reference = frozen_copy(lm, torch.bfloat16)
    sizes = [sum(p.nbytes for p in m.parameters()) for m in (lm, reference)]
    assert sizes[1] < sizes[0] and not any(p.requires_grad for p in reference.parameters())
    ids = torch.randint(0, 15, (2, 9))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(reference(ids).logits, lm(ids).logits)
    assert all(p.dtype == torch.float32 for p in frozen_copy(lm, torch.float32).parameters())
    one, other = lm.get_input_embeddings(), reference.get_input_embeddings()
    assert one.weight is not other.weight and torch.equal(one.weight, other.weight)
