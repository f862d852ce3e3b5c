"""A few short replies, to see whether an engine computes a model right."""

from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from sfpo_rllib.env_runners.engines.base import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)

# Lengths of prompts and replies. Uneven, as what goes wrong does so where prompts are padded or
# replies end before others; some are shorter than the windows of recurrent layers.
_LENGTHS = ((3, 2), (9, 12), (3, 6), (1, 8), (3, 16), (17, 4), (9, 3))
_MOST_STEPS = 1000


def sample_probes(
    engine: RolloutEngine, tokenizer: PreTrainedTokenizerBase, sampling: SamplingSettings
) -> list[tuple[GenerationRequest, Completion]]:
    """Samples replies to made-up prompts, the same ones at each call.

    Args:
        engine: Nothing may be in flight.
        tokenizer: Prompts are of its ordinary tokens.
        sampling: The distribution; its `max_tokens` does not count.

    Returns:
        Each prompt with its reply.

    Raises:
        RuntimeError: If a reply does not come.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    known = sorted({*tokenizer.get_vocab().values()} - special) or sorted(special)
    rng = np.random.default_rng(0)
    requests = {}
    for number, (prompt_len, reply_len) in enumerate(_LENGTHS):
        prompt_len = min(prompt_len, engine.max_model_len - 1)
        room = min(reply_len, engine.max_model_len - prompt_len)
        prompt = rng.choice(known, prompt_len).tolist()
        requests[number] = GenerationRequest(
            number, prompt, number, replace(sampling, max_tokens=room)
        )
        engine.submit(requests[number])
    completions: list[Completion] = []
    for _ in range(_MOST_STEPS):
        completions += engine.step()
        if len(completions) == len(requests):
            break
    else:
        raise RuntimeError(f"{len(requests) - len(completions)} short replies never came")
    return [(requests[completion.request_id], completion) for completion in completions]
