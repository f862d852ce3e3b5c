"""One process in which vLLM's engine runs models one after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray


@ray.remote
class VLLMHost:
    """VLLM changes the process it runs in, and takes longer to import than to start an engine."""

    def logprobs(
        self, folder: str, payload: Any, token_ids: Sequence[Sequence[int]], prompt_lens: list[int]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Log-probs of given replies, with the weights of the folder and with others after them."""
        from sfpo_rllib.env_runners.engines import SamplingSettings, make_engine
        from sfpo_rllib.rl_modules.weights import unpack_weights

        _import_here(folder)
        engine = make_engine(
            "vllm",
            gpu_share=0.0,
            model=folder,
            dtype="float32",
            stop_token_ids=[1],
            max_model_len=128,
            kv_cache_memory_bytes=1 << 26,
            max_num_seqs=16,
        )
        try:
            before = engine.logprobs(token_ids, prompt_lens, SamplingSettings())
            engine.load_weights(unpack_weights(payload))
            return before, engine.logprobs(token_ids, prompt_lens, SamplingSettings())
        finally:
            engine.close()


def _import_here(folder: str) -> None:
    """Imports the model's class here: vLLM would start a process to look at it, for seconds."""
    from transformers import AutoConfig
    from vllm import ModelRegistry

    (architecture,) = AutoConfig.from_pretrained(folder).architectures
    known = ModelRegistry.models.get(architecture)
    if known is not None:  # vLLM's own; others it runs through transformers
        ModelRegistry.register_model(architecture, known.load_model_cls())
