"""A made-up batch of rollouts and the models that learn from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOSS_MASK,
)
from sfpo_rllib.rl_modules.char_llama import build_char_llama


@dataclass(frozen=True)
class Workload:
    """A model and the shape of its rollouts.

    Attributes:
        name: In results.
        llama: Settings of `LlamaConfig`; empty: the quickstart's character model.
        prompts: Different problems.
        group_size: Completions of each.
        prompt_tokens: Of every prompt.
        completion_tokens: Of the longest completion; lengths are uniform from a quarter of it.
    """

    name: str
    llama: Mapping[str, int | float | bool]
    prompts: int
    group_size: int
    prompt_tokens: int
    completion_tokens: int

    def build_model(self, folder: Path) -> Path:
        """Writes model and tokenizer, of random weights: what a step costs does not tell."""
        characters = build_char_llama(folder, alphabet="0123456789+=", hidden_size=128, seed=0)
        if self.llama:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(characters)
            config = LlamaConfig(
                **self.llama,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
            torch.manual_seed(0)
            LlamaForCausalLM(config).save_pretrained(folder)
        return folder

    @property
    def num_completions(self) -> int:
        """Of a batch."""
        return self.prompts * self.group_size

    def rollouts(self, vocab_size: int) -> dict[str, torch.Tensor]:
        """A token batch, padded on the right; equal for equal workloads."""
        generator = torch.Generator().manual_seed(0)
        size = (self.num_completions, 1)
        longest = self.completion_tokens
        lengths = self.prompt_tokens + torch.randint(
            longest // 4, longest + 1, size, generator=generator
        )
        shape = self.num_completions, self.prompt_tokens + longest
        positions = torch.arange(shape[1]).expand(shape)
        inside = positions < lengths
        ids = torch.randint(3, vocab_size, shape, generator=generator)
        prompts = ids[:: self.group_size, : self.prompt_tokens]
        ids[:, : self.prompt_tokens] = prompts.repeat_interleave(self.group_size, dim=0)
        return {
            INPUT_IDS: ids * inside,
            ATTENTION_MASK: inside.long(),
            LOSS_MASK: inside & (positions >= self.prompt_tokens),
            BEHAVIOUR_LOGP: torch.zeros(shape),
            ADVANTAGES: torch.randn(self.num_completions, generator=generator),
        }


SMOLLM2 = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
WORKLOADS = (
    Workload("quickstart's model", {}, 16, 8, prompt_tokens=6, completion_tokens=6),
    Workload("SmolLM2-135M's shape", SMOLLM2, 2, 4, prompt_tokens=64, completion_tokens=64),
)
