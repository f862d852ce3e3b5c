"""An engine and an optimizer as a user would write them, outside of the package."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from sfpo_rllib.env_runners.engines import Completion, GenerationRequest, RolloutEngine


class CountingEngine(RolloutEngine):
    """Replies with the tokens `first`, `first + 1` and so on."""

    samples_policy = False

    def __init__(self, *, first: int, length: int = 2) -> None:
        self.max_model_len = 64
        self._tokens = [first + i for i in range(length)]
        self._queue: list[GenerationRequest] = []

    def submit(self, request: GenerationRequest) -> None:
        self._queue.append(request)

    def step(self) -> list[Completion]:
        queue, self._queue = self._queue, []
        tokens = np.array(self._tokens, np.int32)
        logprobs = np.zeros(len(tokens), np.float32)
        return [Completion(request.request_id, tokens, logprobs, True) for request in queue]

    def abort(self) -> None:
        self._queue.clear()

    def load_weights(self, weights: Any) -> None:
        pass

    def close(self) -> None:
        pass


class SignDescent(torch.optim.Optimizer):
    """Steps of one size, by the sign of a mean of gradients."""

    def __init__(self, params: Iterable[torch.Tensor], lr: float, decay: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    mean = self.state[param].setdefault("mean", torch.zeros_like(param))
                    mean.mul_(group["decay"]).add_(param.grad)
                    param.sub_(group["lr"] * mean.sign())
