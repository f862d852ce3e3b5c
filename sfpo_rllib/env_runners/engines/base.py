"""The small interface between an env runner and what generates its tokens."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sfpo_rllib.env_runners.engines.sampling import SamplingSettings


@dataclass(frozen=True)
class GenerationRequest:
    """One reply to sample.

    Attributes:
        request_id: Comes back with the completion; unique in a process.
        prompt_ids: The dialogue so far.
        seed: Of the request's own random stream: the reply depends on weights, prompt, sampling
            settings and this seed, not on what else is in flight.
        sampling: The distribution; `max_tokens` leaves room for the prompt in the context.
    """

    request_id: int
    prompt_ids: Sequence[int]
    seed: int
    sampling: SamplingSettings


@dataclass(frozen=True)
class Completion:
    """A finished reply.

    Attributes:
        request_id: Of the request.
        token_ids: int32, shape (L,). Ends with a stop token, or the token that completes a stop
            string, unless truncated.
        logprobs: Of these tokens under the distribution they were sampled from, float32, (L,).
        truncated: Whether the reply was cut at `max_tokens`.
        versions: Where in the reply each version of the weights begins, and which it is, by
            `name_weights`. Empty: all of it is of the version that the engine runs.
    """

    request_id: int
    token_ids: np.ndarray
    logprobs: np.ndarray
    truncated: bool
    versions: tuple[tuple[int, int], ...] = ()


class RolloutEngine(ABC):
    """Generates replies with continuous batching; one process, one model.

    Args of every engine: `model` (folder or hub id), `dtype` (name), `stop_token_ids` (a reply
    ends with any of them), `lora` (arguments of `peft.LoraConfig`, or None: weights are then those
    of an adapter to the model), and what the user gave as `engine_kwargs`.

    Attributes:
        max_model_len: Prompt and reply together have at most this many tokens.
        takes_weights_in_flight: Whether `load_weights` may be called while there are requests,
            which then go on under the new weights from what they have said so far.
    """

    max_model_len: int
    takes_weights_in_flight = False

    @abstractmethod
    def submit(self, request: GenerationRequest) -> None:
        """Queues a request."""

    @abstractmethod
    def step(self) -> list[Completion]:
        """Works on the queued requests and returns those that finished, possibly none."""

    @abstractmethod
    def abort(self) -> None:
        """Drops every request in flight, and what an interrupted step has left."""

    def abort_requests(self, request_ids: Collection[int]) -> None:  # noqa: B027
        """Drops some requests; ids that are not in flight are no error.

        An engine that cannot goes on with them: what they come to is thrown away.
        """

    def begin_job(self) -> None:  # noqa: B027
        """Forgets what earlier requests have computed, if it could show in later ones' log-probs.

        What comes of a job is the same then, whichever jobs its runner had before.
        """

    @abstractmethod
    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Replaces the weights and forgets all that old ones computed.

        Args:
            weights: All of them under transformers' names, or with `lora` the adapter's under the
                names of peft's files. Until then an adapter changes nothing.
        """

    def name_weights(self, version: int) -> None:  # noqa: B027
        """Says which version the engine runs, after a load.

        An engine that finishes in a step what it begins there need not know.
        """

    @abstractmethod
    def logprobs(
        self,
        token_ids: Sequence[Sequence[int]],
        prompt_lens: Sequence[int],
        sampling: SamplingSettings,
    ) -> list[np.ndarray]:
        """Log-probs of given replies, by the path and under the distribution used in sampling.

        Args:
            token_ids: Prompt and reply of each sequence.
            prompt_lens: Number of prompt tokens in each.
            sampling: The distribution.

        Returns:
            For each sequence the log-probs of its reply, float32, shape (len - prompt_len,).
        """

    @abstractmethod
    def close(self) -> None:
        """Frees memory and devices. A second call does nothing."""
