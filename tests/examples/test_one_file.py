"""The example in one file is SFPO: it and the package's learner agree on what an update does."""

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from repository import ROOT

pytest.importorskip("ray")

import gymnasium as gym
from ray.rllib.core import DEFAULT_MODULE_ID
from transformers import AutoModelForCausalLM

from sfpo_rllib import SFPOConfig
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
)

SCRIPT = ROOT / "examples" / "sfpo_in_one_file.py"
LR = 1.5e-4  # of the quickstart


@pytest.fixture(scope="module")
def one_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sfpo_in_one_file", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_batch(one_file: ModuleType, seed: int) -> object:
    """Replies of uneven lengths to prompts of uneven lengths, in groups of 4."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(2, 6, (16, 1), generator=generator)
    lengths = prompts + torch.randint(1, 7, (16, 1), generator=generator)
    positions = torch.arange(12).expand(16, 12)
    ids = torch.randint(3, 15, (16, 12), generator=generator) * (positions < lengths)
    rewards = torch.randint(0, 2, (4, 4), generator=generator).float()
    return one_file.Batch(
        ids=ids,
        mask=(positions >= prompts) & (positions < lengths),
        advantages=one_file.advantages_over_group(rewards).flatten(),
    )


@pytest.mark.parametrize(("fast_steps", "alpha"), [(3, 0.8), (1, 0.3), (2, 0.0), (2, 1.0)])
def test_equal_batches_lead_the_package_and_the_example_to_equal_weights(
    one_file: ModuleType,
    make_config: Callable[..., SFPOConfig],
    tiny_model: Path,
    fast_steps: int,
    alpha: float,
) -> None:
    config = make_config(SFPOConfig).training(
        lr=LR,
        fast_steps=fast_steps,
        reposition_alpha=alpha,
        # There is no engine.
        engine_correction=None,
        max_engine_logp_diff=None,
    )
    space = gym.spaces.Text(1)
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})
    learner.build()
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    for seed in range(3):
        batch = make_batch(one_file, seed)
        one_file.sfpo_update(model, optimizer, batch, fast_steps=fast_steps, alpha=alpha)
        learner.before_gradient_based_update(timesteps={})  # sets the learning rate
        learner._update(
            {
                DEFAULT_MODULE_ID: {
                    INPUT_IDS: batch.ids,
                    ATTENTION_MASK: (batch.ids != 0).long(),
                    LOSS_MASK: batch.mask,
                    BEHAVIOUR_LOGP: torch.zeros(batch.ids.shape),
                    ADVANTAGES: batch.advantages,
                }
            }
        )
    weights = learner.module[DEFAULT_MODULE_ID].unwrapped().weights()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-6)
    moved = max((before[name] - tensor).abs().max() for name, tensor in model.state_dict().items())
    assert moved > LR / 2  # not by standing still


def test_replies_are_sampled_from_the_model(one_file: ModuleType, tiny_model: Path) -> None:
    """Frequencies of the first token of many replies, against the model's own distribution."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(0)
    prompts = [[5, 6, 7], [5]] * 2000
    ids, mask = one_file.sample(model, prompts, eos=1, max_tokens=3)
    for start, prompt in enumerate(prompts[:2]):
        expected = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
        found = torch.bincount(ids[start::2, len(prompt)], minlength=len(expected)) / 2000
        assert (found - expected).abs().max() < 0.05
    # A reply ends with EOS or at its longest, and nothing after it is marked.
    for row, on in zip(ids, mask, strict=True):
        reply = row[on].tolist()
        assert reply and 1 not in reply[:-1]
        assert reply[-1] == 1 or len(reply) == 3


def test_it_needs_torch_and_transformers_alone_and_fits_in_a_head() -> None:
    tree = ast.parse(SCRIPT.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"torch", "transformers"}
    assert len(SCRIPT.read_text().splitlines()) <= 200
