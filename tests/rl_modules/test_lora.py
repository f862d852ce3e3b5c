"""LoRA: what is trained, carried, served and saved is the adapter, and the base stays as it was."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ray")
pytest.importorskip("peft", reason="peft is not installed")

import peft
from probes import ECHO, assert_equal_weights, sfpo_results, train
from ray.rllib.core import DEFAULT_MODULE_ID
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config

from sfpo_rllib import GRPO, SFPO, SFPOConfig
from sfpo_rllib.core import anchor
from sfpo_rllib.env_runners.engines import SamplingSettings, make_engine
from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.lora import write_adapter

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

LORA = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}
# Other ways to say what the adapter is.
SETTINGS = [
    LORA,
    {"r": 2, "target_modules": ["q_proj", "down_proj"]},
    {"r": 4, "target_modules": r".*1\.mlp\.(up|gate)_proj", "use_rslora": True},
    {"target_modules": ["k_proj", "o_proj"], "layers_to_transform": [1]},
    {"target_modules": "all-linear", "exclude_modules": ["v_proj"]},
    {"r": 4, "target_modules": "all-linear", "rank_pattern": {"q_proj": 8}, "lora_alpha": 3},
    {**LORA, "use_dora": True},
    {},  # peft's own choice
]
PROMPT = 3


def build_module(folder: Path, lora: dict[str, Any] | None, **more: Any) -> CausalLMModule:
    return CausalLMModule(
        observation_space=None,
        action_space=None,
        model_config={"model": str(folder), "lora": lora, **more},
    )


def token_batch(lengths: tuple[int, ...] = (9, 12, 5)) -> dict[str, torch.Tensor]:
    """Random tokens, padded on the right, of which those after the prompt count."""
    shape = len(lengths), max(lengths)
    positions = torch.arange(shape[1]).expand(shape)
    length = torch.tensor(lengths).unsqueeze(1)
    return {
        "input_ids": torch.randint(3, 15, shape, generator=torch.Generator().manual_seed(0)),
        "attention_mask": (positions < length).long(),
        "loss_mask": (positions >= PROMPT) & (positions < length),
    }


def trained(module: CausalLMModule) -> dict[str, torch.Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def frozen(module: CausalLMModule) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters() if not p.requires_grad}


@torch.no_grad()
def move(module: CausalLMModule) -> None:
    """Moves the adapter so far that the policy is another one, and always the same."""
    torch.manual_seed(1)
    for param in trained(module).values():
        param.copy_(0.3 * torch.randn_like(param))


@torch.no_grad()
def logp_of(lm: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probs by the model's own logits, shape (B, T), 0 where tokens do not count."""
    logits = lm(input_ids=batch["input_ids"]).logits[:, :-1].log_softmax(-1)
    logp = logits.gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
    return torch.nn.functional.pad(logp, (1, 0)) * batch["loss_mask"]


def by_peft(base: Path, adapter: Path, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    lm = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return logp_of(peft.PeftModel.from_pretrained(lm, adapter).eval(), batch)


# The module.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_adapter_alone_is_trained_in_float32_and_the_base_is_held_in_the_compute_dtype(
    tiny_model: Path, dtype: str
) -> None:
    module = build_module(tiny_model, LORA, dtype=dtype)
    assert {p.dtype for p in trained(module).values()} == {torch.float32}
    assert {p.dtype for p in frozen(module).values()} == {getattr(torch, dtype)}
    assert all(".lora_" in name for name in trained(module))
    assert not any(".lora_" in name for name in frozen(module))
    assert len(trained(module)) == 2 * 7 * 2  # two matrices to each of a layer's seven
    move(module)
    module.forward_train(token_batch())["logp"].sum().backward()
    assert all(p.grad.norm() > 0 for p in trained(module).values())
    assert all(p.grad is None for p in module.parameters() if not p.requires_grad)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_log_probs_begin_as_the_bases_and_are_then_those_of_peft_and_of_the_engine(
    tiny_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    module, batch = build_module(tiny_model, settings, holds_reference=True), token_batch()
    start = module.forward_train(batch)["logp"].detach()
    base = build_module(tiny_model, None).forward_train(batch)["logp"].detach()
    assert torch.allclose(start, base, atol=1e-6)
    move(module)
    logp = module.forward_train(batch)["logp"].detach()
    assert (logp - base).abs().max() > 0.01
    # Of the reference, which is the adapter switched off, no copy is held.
    assert module.reference is None
    assert torch.allclose(module.reference_logp(batch), base, atol=1e-6)
    assert torch.equal(module.forward_train(batch)["logp"], logp)

    write_adapter(tmp_path, module.weights(), settings, base_model=str(tiny_model))
    torch.testing.assert_close(by_peft(tiny_model, tmp_path, batch), logp, rtol=0, atol=1e-5)

    engine = make_engine(
        "transformers",
        gpu_share=0.0,
        model=str(tiny_model),
        dtype="float32",
        stop_token_ids=[],
        lora=settings,
    )
    rows = [
        ids[:length].tolist()
        for ids, length in zip(batch["input_ids"], batch["attention_mask"].sum(1), strict=True)
    ]
    for expected in (base, logp):
        served = engine.logprobs(rows, [PROMPT] * len(rows), SamplingSettings())
        served = torch.from_numpy(np.concatenate(served))
        torch.testing.assert_close(served, expected[batch["loss_mask"]], rtol=0, atol=1e-5)
        engine.load_weights(module.weights())


def test_a_reference_is_as_trainable_after_as_before(tiny_model: Path) -> None:
    module = build_module(tiny_model, LORA, holds_reference=True)
    names = trained(module).keys()
    module.reference_logp(token_batch())
    assert trained(module).keys() == names
    plain = build_module(tiny_model, LORA)
    with pytest.raises(ValueError, match="holds_reference=False: must be True"):
        plain.reference_logp(token_batch())


@pytest.mark.parametrize(
    "more", [{"packing": True}, {"gradient_checkpointing": True}], ids=lambda m: next(iter(m))
)
def test_packing_and_checkpointing_leave_the_adapters_gradient_as_it_is(
    tiny_model: Path, more: dict[str, Any]
) -> None:
    gradients = []
    for settings in ({}, more):
        module = build_module(tiny_model, LORA, temperature=0.8, **settings)
        move(module)
        out = module.forward_train(token_batch())
        (out["logp"].exp().sum() + out["entropy"].square().sum()).backward()
        gradients.append({name: p.grad for name, p in trained(module).items()})
    for name, gradient in gradients[0].items():
        assert gradient.norm() > 0
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_near_float32(tiny_model: Path) -> None:
    logp = []
    for dtype in ("float32", "bfloat16"):
        module = build_module(tiny_model, LORA, dtype=dtype)
        move(module)
        logp.append(module.forward_train(token_batch())["logp"].detach())
    assert torch.allclose(*logp, atol=0.05)


def test_a_layer_that_is_a_conv1d_gets_an_adapter_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=16, n_positions=32, n_embd=32, n_layer=2, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    module = build_module(tmp_path / "base", LORA)
    move(module)
    logp = module.forward_train(token_batch())["logp"]
    write_adapter(tmp_path / "a", module.weights(), LORA, base_model=str(tmp_path / "base"))
    expected = by_peft(tmp_path / "base", tmp_path / "a", token_batch())
    torch.testing.assert_close(expected, logp.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "name"), [("lm_head", "output layer"), ("embed_tokens", "embedding")]
)
def test_an_adapter_to_embedding_or_output_layer_is_refused(
    tiny_model: Path, layer: str, name: str
) -> None:
    with pytest.raises(ValueError, match=rf"'target_modules'\].*must not contain the {name}"):
        build_module(tiny_model, {"target_modules": ["q_proj", layer]})


# States.


def test_a_state_carries_the_adapter_alone_under_the_names_of_peft(
    tiny_model: Path, tmp_path: Path
) -> None:
    source, target = build_module(tiny_model, LORA), build_module(tiny_model, LORA)
    move(source)
    source.lm.save_pretrained(tmp_path)
    expected = load_file(tmp_path / "adapter_model.safetensors")
    assert_equal_weights(source.weights(), expected)
    assert source.get_state().keys() == expected.keys()
    base = frozen(target)
    target.set_state(source.get_state())
    assert_equal_weights(target.weights(), expected)
    assert_equal_weights(frozen(target), base)


def test_weights_of_another_adapter_are_refused_and_change_nothing(tiny_model: Path) -> None:
    kwargs = {"gpu_share": 0.0, "model": str(tiny_model), "dtype": "float32", "stop_token_ids": []}
    engine = make_engine("transformers", lora=LORA, **kwargs)
    other = build_module(tiny_model, {**LORA, "r": 1}).weights()  # which would broadcast
    before = engine.logprobs([[3, 4, 5]], [1], SamplingSettings())[0]
    for weights in (other, dict(list(build_module(tiny_model, LORA).weights().items())[1:])):
        with pytest.raises(ValueError, match="of the adapter missing, unknown or of another shape"):
            engine.load_weights(weights)
    after = engine.logprobs([[3, 4, 5]], [1], SamplingSettings())[0]
    assert np.array_equal(before, after)


# Training.


@pytest.fixture
def lora_config(make_config: MakeConfig, tiny_model: Path) -> SFPOConfig:
    config = make_config(env=ECHO).training(lr=1e-2)
    return config.rl_module(model_config={"model": str(tiny_model), "lora": LORA})


def learner_module(algo: SFPO) -> CausalLMModule:
    return algo.learner_group._learner.module[DEFAULT_MODULE_ID].unwrapped()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Numbers of values in the snapshots that are taken."""
    sizes: list[int] = []
    init = anchor.Anchor.__init__

    def counted(self: anchor.Anchor, parameters: Any, **kwargs: Any) -> None:
        init(self, parameters, **kwargs)
        sizes.append(sum(param.numel() for param in self.parameters))

    monkeypatch.setattr(anchor.Anchor, "__init__", counted)
    return sizes


def test_sfpo_trains_the_adapter_alone_and_its_snapshot_and_optimizer_hold_nothing_else(
    lora_config: SFPOConfig, running: Running, copied: list[int]
) -> None:
    algo = running(lora_config.training(kl_coeff=0.1).build_algo())
    module = learner_module(algo)
    base, start = frozen(module), algo.get_module_weights()
    (first,) = [sfpo_results(r) for r in train(algo, 1)[1]]
    assert_equal_weights(frozen(module), base)
    moved = algo.get_module_weights()
    assert all(not torch.equal(moved[name], start[name]) for name in start)
    assert set(copied) == {sum(tensor.numel() for tensor in start.values())}
    (optimizer,) = algo.learner_group._learner._optimizer_parameters
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {
        id(p) for p in trained(module).values()
    }
    # The policy began as the reference, and left it.
    assert first["pass_0"]["kl_to_reference"] == 0.0
    assert first["displacement_norm"] > 0
    second = sfpo_results(algo.train())
    assert second["pass_0"]["kl_to_reference"] > 1e-4
    assert second["engine_logp_diff"] < 1e-5


def test_training_an_adapter_improves_the_reward(
    lora_config: SFPOConfig, running: Running, tiny_model: Path, tmp_path: Path
) -> None:
    # A random model's embeddings, which are its head too, bound its logits near 0.
    shutil.copytree(tiny_model, tmp_path / "sharp")
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        lm.get_input_embeddings().weight.mul_(8.0)
    lm.save_pretrained(tmp_path / "sharp")
    config = lora_config.rl_module(model_config={"model": str(tmp_path / "sharp"), "lora": LORA})
    algo = running(config.training(train_batch_size_per_learner=32, group_size=8).build_algo())
    rewards = [r["env_runners"]["episode_return_mean"] for r in train(algo, 10)[1]]
    assert min(rewards[-3:]) > rewards[0] + 0.3


def test_a_saved_run_goes_on_from_its_adapter_bit_for_bit(
    lora_config: SFPOConfig, running: Running, tmp_path: Path
) -> None:
    algo = running(lora_config.build_algo())
    train(algo, 2)
    path = algo.save_to_path(tmp_path / "checkpoint")
    saved = algo.get_module_weights()
    other = running(SFPO.from_checkpoint(path))
    assert_equal_weights(other.get_module_weights(), saved)
    (batch, results), (other_batch, other_results) = train(algo, 1), train(other, 1)
    assert other_batch == batch
    assert_equal_weights(other.get_module_weights(), algo.get_module_weights())
    assert sfpo_results(other_results[0])["engine_logp_diff"] < 1e-5
    assert sfpo_results(results[0])["entropy"] == sfpo_results(other_results[0])["entropy"]


def test_the_folder_that_is_saved_is_an_adapter_with_the_learners_log_probs(
    lora_config: SFPOConfig, running: Running, tiny_model: Path, tmp_path: Path
) -> None:
    algo = running(lora_config.build_algo())
    algo.train()
    folder = algo.save_pretrained(tmp_path / "adapter")
    saved = json.loads((folder / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(tiny_model)
    assert (folder / "tokenizer_config.json").exists()
    assert_equal_weights(load_file(folder / "adapter_model.safetensors"), algo.get_module_weights())
    batch = token_batch()
    logp = learner_module(algo).forward_train(batch)["logp"].detach()
    torch.testing.assert_close(by_peft(tiny_model, folder, batch), logp, rtol=0, atol=1e-5)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_two_learners_hold_one_adapter(lora_config: SFPOConfig, running: Running) -> None:
    """Also without a seed, where each draws another one at first."""
    config = lora_config.debugging(seed=None).learners(num_learners=2)
    config.training(train_batch_size_per_learner=8, kl_coeff=0.1)
    algo = running(config.build_algo())

    def weights() -> list[dict[str, torch.Tensor]]:
        results = algo.learner_group.foreach_learner(
            lambda learner: {
                name: tensor.clone()
                for name, tensor in learner.module[DEFAULT_MODULE_ID].unwrapped().weights().items()
            }
        )
        return [result.get() for result in results]

    assert_equal_weights(*weights())
    result = sfpo_results(train(algo, 2)[1][-1])
    assert_equal_weights(*weights())
    assert result["engine_logp_diff"] < 1e-5
