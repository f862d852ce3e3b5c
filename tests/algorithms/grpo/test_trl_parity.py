"""Loss and gradients of TRL's GRPOTrainer, on the same batch and model, for what both have.

TRL is given hand-made inputs; what is compared is our whole way from token ids to gradients.
"""

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")
if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed: pip install 'trl==1.16.0'", allow_module_level=True)

from transformers import AutoModelForCausalLM, AutoTokenizer

from sfpo_rllib import GRPOConfig
from sfpo_rllib.core import token_weights
from sfpo_rllib.rl_modules import CausalLMModule

pytestmark = pytest.mark.slow

PROMPT_LENGTHS = [3, 1, 5, 2]
COMPLETION_LENGTHS = [7, 2, 4, 9]
MAX_COMPLETION = 12
TEMPERATURE = 0.7


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Completions, right-padded: their tokens, mask, and log-probs of start, engine, reference."""
    width = max(COMPLETION_LENGTHS)
    start = -normal(4, width, seed=1).abs() - 2
    generator = torch.Generator().manual_seed(0)
    return {
        "prompts": torch.randint(3, 15, (4, max(PROMPT_LENGTHS)), generator=generator),
        "completions": torch.randint(3, 15, (4, width), generator=generator),
        "mask": torch.arange(width) < torch.tensor(COMPLETION_LENGTHS).unsqueeze(1),
        "advantages": normal(4, seed=2),
        "start_logp": start,
        "engine_logp": start + 0.4 * normal(4, width, seed=3),
        "reference_logp": start + 0.3 * normal(4, width, seed=4),
    }


def near_the_policy(folder: Path, batch: dict[str, torch.Tensor], spread: float) -> None:
    """Moves the start to where the policy is, so that ratios fall on both sides of the clips."""
    module = CausalLMModule(
        observation_space=None,
        action_space=None,
        model_config={"model": str(folder), "temperature": TEMPERATURE},
    )
    logp = module.forward_train(right_padded(batch))["logp"].detach()
    shift = torch.zeros_like(batch["start_logp"])
    for row, (prompt, length) in enumerate(zip(PROMPT_LENGTHS, COMPLETION_LENGTHS, strict=True)):
        own = logp[row, prompt : prompt + length] + spread * normal(length, seed=10 + row)
        shift[row, :length] = own - batch["start_logp"][row, :length]
    for name in ("start_logp", "engine_logp", "reference_logp"):
        batch[name] = batch[name] + shift


def right_padded(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our layout: prompt and completion together, padding on the right."""
    width = max(p + c for p, c in zip(PROMPT_LENGTHS, COMPLETION_LENGTHS, strict=True))
    names = ("start_logp", "engine_logp", "reference_logp")
    columns = {name: torch.zeros(4, width) for name in names}
    columns |= {name: torch.zeros(4, width, dtype=torch.long) for name in ("input_ids", "used")}
    for row, (prompt, length) in enumerate(zip(PROMPT_LENGTHS, COMPLETION_LENGTHS, strict=True)):
        columns["input_ids"][row, :prompt] = batch["prompts"][row, -prompt:]
        columns["input_ids"][row, prompt : prompt + length] = batch["completions"][row, :length]
        columns["used"][row, : prompt + length] = 1
        for name in names:
            columns[name][row, prompt : prompt + length] = batch[name][row, :length]
    positions = torch.arange(width)
    starts = torch.tensor(PROMPT_LENGTHS).unsqueeze(1)
    used = columns.pop("used")
    return {**columns, "attention_mask": used, "loss_mask": (positions >= starts) & (used == 1)}


def ours(
    folder: Path, batch: dict[str, torch.Tensor], settings: dict[str, Any]
) -> tuple[float, dict[str, torch.Tensor]]:
    config = (
        GRPOConfig()
        .env_runners(sampling={"temperature": TEMPERATURE, "max_tokens": MAX_COMPLETION})
        .training(**{"engine_correction": None, **settings})
    )
    module = CausalLMModule(
        observation_space=None,
        action_space=None,
        model_config={"model": str(folder), **config._model_config_auto_includes},
    )
    columns = right_padded(batch)
    mask = columns["loss_mask"]
    objective = config.make_objective()
    weights = token_weights(
        mask,
        aggregation=objective.loss.aggregation,
        num_tokens=float(mask.sum()),
        num_sequences=4.0,
        max_tokens=MAX_COMPLETION,
    )
    out = module.forward_train(columns)
    loss, _ = objective(
        logp=out["logp"],
        entropy=out["entropy"],
        start_logp=columns["start_logp"],
        engine_logp=columns["engine_logp"],
        reference_logp=columns["reference_logp"],
        advantages=batch["advantages"].unsqueeze(1),
        mask=mask,
        weights=weights,
    )
    loss.backward()
    return loss.item(), {n: p.grad for n, p in module.lm.named_parameters()}


def theirs(
    folder: Path, batch: dict[str, torch.Tensor], settings: dict[str, Any], output: Path
) -> tuple[float, dict[str, torch.Tensor]]:
    from datasets import Dataset
    from trl import GRPOConfig as TRLConfig
    from trl import GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    correction = settings.pop("engine_correction", None)
    args = TRLConfig(
        output_dir=str(output),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        num_generations=4,
        max_completion_length=MAX_COMPLETION,
        temperature=TEMPERATURE,
        gradient_checkpointing=False,
        use_bias_correction_kl=False,
        **settings,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["1+1="] * 4}),
        processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.model.train()
    mask = batch["mask"]
    starts = max(PROMPT_LENGTHS) - torch.tensor(PROMPT_LENGTHS).unsqueeze(1)
    inputs = {
        "prompt_ids": batch["prompts"],
        "prompt_mask": (torch.arange(max(PROMPT_LENGTHS)) >= starts).long(),
        "completion_ids": batch["completions"].masked_fill(~mask, 0),
        "completion_mask": mask.long(),
        "advantages": batch["advantages"],
        "old_per_token_logps": batch["start_logp"],
        "ref_per_token_logps": batch["reference_logp"],
        "num_items_in_batch": mask.sum(),
    }
    if correction is not None:  # as TRL computes it where vLLM has sampled
        trainer.use_vllm = True
        ratio = ((batch["start_logp"] - batch["engine_logp"]) * mask).exp()
        inputs["importance_sampling_ratio"] = (
            ratio.clamp(max=2.0)
            if correction == "token_truncate"
            else ratio.masked_fill((ratio < 0.5) | (ratio > 2.0), 0.0)
        )
    loss = trainer.compute_loss(model, inputs)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters()}


# Our settings, TRL's, and how far ratios are spread around 1.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    "grpo, mean over sequences": (
        {"loss": "grpo", "loss_aggregation": "sequence"},
        {"loss_type": "grpo"},
        0.3,
    ),
    "grpo, mean over tokens": ({"loss": "grpo"}, {"loss_type": "bnpo"}, 0.3),
    "dr_grpo": ({"loss": "dr_grpo"}, {"loss_type": "dr_grpo"}, 0.3),
    "dapo": ({"loss": "dapo"}, {"loss_type": "dapo", "epsilon_high": 0.28}, 0.3),
    "dual clip": (
        {"loss": "grpo", "clip_param_dual": 1.5},
        {"loss_type": "bnpo", "delta": 1.5},
        0.6,
    ),
    "gspo": (
        {"loss": "gspo"},
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
        },
        1e-3,
    ),
    "cispo": ({"loss": "cispo"}, {"loss_type": "cispo", "epsilon_high": 5.0}, 1.5),
    "kl k3": ({"loss": "grpo", "kl_coeff": 0.2}, {"loss_type": "bnpo", "beta": 0.2}, 0.3),
    "kl k3, gspo": (
        {"loss": "gspo", "clip_param": 0.2, "clip_param_high": 0.2, "kl_coeff": 0.2},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.2},
        0.3,
    ),
    "entropy bonus": (
        {"loss": "dapo", "entropy_coeff": 0.1},
        {"loss_type": "dapo", "epsilon_high": 0.28, "entropy_coef": 0.1},
        0.3,
    ),
    "engine truncated": (
        {"loss": "grpo", "engine_correction": "token_truncate", "kl_coeff": 0.2},
        {"loss_type": "bnpo", "engine_correction": "token_truncate", "beta": 0.2},
        0.3,
    ),
    "engine masked": (
        {"loss": "dr_grpo", "engine_correction": "token_mask"},
        {"loss_type": "dr_grpo", "engine_correction": "token_mask"},
        0.3,
    ),
}


@pytest.mark.parametrize(("own", "of_trl", "spread"), VARIANTS.values(), ids=VARIANTS.keys())
def test_loss_and_gradients_are_those_of_trl(
    tiny_model: Path,
    batch: dict[str, torch.Tensor],
    tmp_path: Path,
    own: dict[str, Any],
    of_trl: dict[str, Any],
    spread: float,
    record_property: Callable[[str, object], None],
) -> None:
    near_the_policy(tiny_model, batch, spread)
    loss, gradients = ours(tiny_model, batch, own)
    expected_loss, expected = theirs(tiny_model, batch, {"beta": 0.0, **of_trl}, tmp_path)
    assert gradients.keys() == expected.keys()
    scale = math.sqrt(sum(float(g.square().sum()) for g in expected.values()))
    error = max(float((gradients[n] - expected[n]).abs().max()) for n in expected) / scale
    record_property("loss_error", abs(loss - expected_loss))
    record_property("gradient_error", error)
    assert scale > 0
    assert loss == pytest.approx(expected_loss, rel=1e-5, abs=1e-6)
    assert error < 1e-5
