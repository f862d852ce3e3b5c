"""One step on one batch: ours, a bare torch loop's, TRL's. All AdamW, clipped, in float32."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from sfpo_envs import UnicodeText
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.learner.rollouts import Workload
from sfpo_rllib import GRPOConfig
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES, ATTENTION_MASK, INPUT_IDS, LOSS_MASK

Step = Callable[[], None]
LR = 1e-6
CLIP = 0.2


def ours(model: Path, workload: Workload, *, packing: bool = False) -> Step:
    """A GRPO update by our learner, with all that it measures."""
    config = (
        GRPOConfig()
        .rl_module(model_config={"model": str(model), "packing": packing})
        .env_runners(sampling={"max_tokens": workload.completion_tokens})
        .training(
            lr=LR,
            train_batch_size_per_learner=workload.num_completions,
            group_size=workload.group_size,
            # There is no engine.
            engine_correction=None,
            max_engine_logp_diff=None,
        )
    )
    space = UnicodeText(1)
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: (space, space)})
    learner.build()
    module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    batch = {DEFAULT_MODULE_ID: workload.rollouts(module.lm.config.vocab_size)}

    def step() -> None:
        learner._update(batch)

    return step


def bare_loop(model: Path, workload: Workload) -> Step:
    """The same arithmetic in twenty lines: whole logits, one micro-batch, entropy measured."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=LR, weight_decay=0.01)
    batch = workload.rollouts(lm.config.vocab_size)
    ids, mask = batch[INPUT_IDS], batch[LOSS_MASK][:, 1:]
    advantages = batch[ADVANTAGES].unsqueeze(1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        output = lm(input_ids=ids, attention_mask=batch[ATTENTION_MASK], use_cache=False)
        log_probs = output.logits[:, :-1].float().log_softmax(-1)
        logp = log_probs.gather(-1, ids[:, 1:].unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            entropy = -(log_probs.exp() * log_probs).sum(-1)
            float((entropy * mask).sum() / mask.sum())
        ratio = (logp - logp.detach()).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        terms = torch.minimum(ratio * advantages, clipped * advantages)
        loss = -(terms * mask).sum() / mask.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()

    return step


def trl(model: Path, workload: Workload) -> Step:
    """TRL's GRPOTrainer: its loss with its own chunked output layer, and its optimizer."""
    from datasets import Dataset
    from trl import GRPOConfig as TRLConfig
    from trl import GRPOTrainer

    args = TRLConfig(
        output_dir=tempfile.mkdtemp(prefix="trl_"),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=workload.num_completions,
        gradient_accumulation_steps=1,
        num_generations=workload.group_size,
        max_completion_length=workload.completion_tokens,
        gradient_checkpointing=False,
        loss_type="bnpo",  # the mean over tokens
        beta=0.0,
        learning_rate=LR,
        weight_decay=0.01,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["1+1="] * workload.num_completions}),
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.create_optimizer()
    lm = trainer.model.train()
    batch = workload.rollouts(lm.config.vocab_size)
    start = workload.prompt_tokens
    inputs: dict[str, Any] = {
        "prompt_ids": batch[INPUT_IDS][:, :start],
        "prompt_mask": batch[ATTENTION_MASK][:, :start],
        "completion_ids": batch[INPUT_IDS][:, start:],
        "completion_mask": batch[ATTENTION_MASK][:, start:],
        "advantages": batch[ADVANTAGES],
        "num_items_in_batch": batch[LOSS_MASK].sum(),
    }

    def step() -> None:
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.compute_loss(lm, inputs).backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        trainer.optimizer.step()

    return step
