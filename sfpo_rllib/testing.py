"""For trying an environment, or a part of your own, in seconds: a tiny model, a scripted engine."""

import itertools
import string
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
)
from sfpo_rllib.rl_modules.char_llama import build_char_llama


def tiny_model(
    folder: str | Path | None = None,
    *,
    alphabet: str = string.printable,
    max_length: int = 512,
    seed: int = 0,
) -> str:
    """Writes a Llama of 0.1M random weights whose tokens are single characters.

    It knows nothing, so its replies are noise; everything else is as with a model that is worth
    training. vLLM runs it, too.

    Args:
        folder: Where to; by default a new folder among the temporary files.
        alphabet: The characters it can write; others are read as one unknown token.
        max_length: Of prompt and reply together, in characters.
        seed: Of the weights.

    Returns:
        The folder, for `model_config={"model": ...}`.
    """
    folder = folder or tempfile.mkdtemp(prefix="tiny_model_")
    return str(
        build_char_llama(
            folder,
            alphabet=alphabet,
            hidden_size=64,
            num_layers=2,
            max_length=max_length,
            seed=seed,
        )
    )


class ScriptedEngine(RolloutEngine):
    """Replies from a list, one after the other, and begins again at its end."""

    samples_policy = False  # nothing to compare with the learner when training begins

    def __init__(self, *, replies: Sequence[str], model: str, max_model_len: int = 512) -> None:
        self.max_model_len = max_model_len
        self._finished: list[Completion] = []
        tokenizer = AutoTokenizer.from_pretrained(model)
        encoded = (tokenizer.encode(reply, add_special_tokens=False) for reply in replies)
        self._replies = itertools.cycle([[*ids, tokenizer.eos_token_id] for ids in encoded])

    def submit(self, request: GenerationRequest) -> None:
        reply = next(self._replies)
        kept = np.array(reply[: request.sampling.max_tokens], np.int32)
        logprobs = np.zeros(len(kept), np.float32)
        is_cut = len(kept) < len(reply)
        self._finished.append(Completion(request.request_id, kept, logprobs, truncated=is_cut))

    def step(self) -> list[Completion]:
        finished, self._finished = self._finished, []
        return finished

    def abort(self) -> None:
        self._finished.clear()

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        pass

    def close(self) -> None:
        pass
