"""An engine that replies what it is told to, as fast as it is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from sfpo_rllib.env_runners.engines import Completion, GenerationRequest, RolloutEngine


class Parrot(RolloutEngine):
    """Says to a prompt that holds a key what stands there, the next each time."""

    samples_policy = False

    def __init__(self, *, model: str, says: Mapping[str, Sequence[str]]) -> None:
        self.max_model_len = 4096
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._says = {key: list(replies) for key, replies in says.items()}
        self._queue: list[GenerationRequest] = []

    def submit(self, request: GenerationRequest) -> None:
        self._queue.append(request)

    def step(self) -> list[Completion]:
        request = self._queue.pop(0)
        prompt = self._tokenizer.decode(request.prompt_ids)
        (replies,) = [said for key, said in self._says.items() if key in prompt]
        tokens = self._tokenizer.encode(replies.pop(0), add_special_tokens=False)
        ids = np.array([*tokens, self._tokenizer.eos_token_id], np.int32)
        return [Completion(request.request_id, ids, np.zeros(len(ids), np.float32), False)]

    def abort(self) -> None:
        self._queue.clear()

    def load_weights(self, weights: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._queue.clear()
