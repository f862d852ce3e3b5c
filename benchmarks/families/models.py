"""Tiny random models of many families."""

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from sfpo_rllib.rl_modules.char_llama import char_tokenizer

ALPHABET = "0123456789+-="
CONTEXT = 256

# Heads of 32, the least that vLLM's kernels take on a CPU.
_LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
}
_GPT2: dict[str, Any] = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
_MOE: dict[str, Any] = {
    **_LLAMA,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
_DELTA: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
}
_TIED = {"tie_word_embeddings": True}

DENSE: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, **_TIED},
    "qwen2": {**_LLAMA, **_TIED},
    "qwen3": {**_LLAMA, **_TIED},
    "gemma": _LLAMA,
    "gemma2": {**_LLAMA, "query_pre_attn_scalar": 32},
    "gemma3_text": {**_LLAMA, "query_pre_attn_scalar": 32},
    "gemma4_text": _LLAMA,
    "gpt2": _GPT2,
    "gpt_neox": _LLAMA,
    "opt": {
        "hidden_size": 64,
        "ffn_dim": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 64,
        "max_position_embeddings": CONTEXT,
    },
    "mistral": _LLAMA,
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 2},
    "falcon": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
    },
    "phi": _LLAMA,
    "phi3": {**_LLAMA, **_TIED},
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "olmo3": _LLAMA,
    "stablelm": {**_LLAMA, **_TIED},
    "cohere": _LLAMA,
    "cohere2": _LLAMA,
    "granite": {**_LLAMA, **_TIED},
    "glm4": {**_LLAMA, **_TIED},
    "gptj": {**_GPT2, "rotary_dim": 16},
    "gpt_bigcode": _GPT2,
    "mpt": {"d_model": 64, "n_heads": 2, "n_layers": 2, "max_seq_len": CONTEXT},
    "nemotron": {**_LLAMA, **_TIED},
    "exaone4": {**_LLAMA, **_TIED},
    "apertus": _LLAMA,
    "starcoder2": _LLAMA,
    "smollm3": _LLAMA,
    "ernie4_5": _LLAMA,
    "seed_oss": _LLAMA,
    "persimmon": _LLAMA,
    "openai-gpt": _GPT2,
}
EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {**_MOE, **_TIED},
    "qwen2_moe": {**_MOE, "shared_expert_intermediate_size": 32},
    "qwen3_moe": {**_MOE, **_TIED},
    "olmoe": _MOE,
    "granitemoe": _MOE,
    "glm4_moe": _MOE,
    "gpt_oss": _MOE,
    "jetmoe": _MOE,
    "minimax": _MOE,
}
RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
    "mamba2": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "state_size": 8,
        "num_heads": 4,
        "head_dim": 32,
        "n_groups": 1,
    },
    "falcon_mamba": {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
    "falcon_h1": {**_LLAMA, **_MAMBA2, "mamba_d_ssm": 128},
    "lfm2": {**_LLAMA, "layer_types": ["conv", "full_attention"], "block_ff_dim": 96},
    "qwen3_next": {**_MOE, **_DELTA, "shared_expert_intermediate_size": 32},
    "qwen3_5_text": {**_LLAMA, **_DELTA},
    "olmo_hybrid": {**_LLAMA, **_DELTA},
    "jamba": {
        **_MOE,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 8,
        "use_mamba_kernels": False,
    },
    "bamba": {**_LLAMA, **_MAMBA2, "attn_layer_indices": [1]},
    "granitemoehybrid": {
        **_MOE,
        **_MAMBA2,
        "layer_types": ["mamba", "attention"],
        "shared_intermediate_size": 32,
    },
    "nemotron_h": {
        **_LLAMA,
        "hybrid_override_pattern": "M*",
        "mamba_num_heads": 4,
        "mamba_head_dim": 32,
        "n_groups": 1,
        "ssm_state_size": 8,
    },
    "recurrent_gemma": {
        **_LLAMA,
        "num_hidden_layers": 3,
        "lru_width": 64,
        "attention_window_size": 64,
    },
    "rwkv": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "attention_hidden_size": 64,
        "intermediate_size": 96,
        "context_length": CONTEXT,
    },
    "xlstm": {"hidden_size": 64, "num_hidden_layers": 2, "num_heads": 2},
}
FAMILIES = {**DENSE, **EXPERTS, **RECURRENT}


def build_family(name: str, folder: str | Path, *, seed: int = 0) -> Path:
    """Writes a random model of a family, with a tokenizer of characters.

    Its distributions are far from flat, so that what it computes otherwise shows.

    Args:
        name: One of `FAMILIES`.
        folder: Where to.
        seed: Of the weights.

    Returns:
        The folder.
    """
    tokenizer = char_tokenizer(ALPHABET)
    config = CONFIG_MAPPING[name](
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **FAMILIES[name],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for param in model.parameters():
                param.add_(torch.randn_like(param) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
