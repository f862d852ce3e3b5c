"""The small interface between an env runner and what generates its tokens."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from sfpo_rllib.core.registry import argument_problems, parameters_of
from sfpo_rllib.env_runners.engines.memory import EngineLoad, EngineMemory, in_gb
from sfpo_rllib.env_runners.engines.sampling import (
    NOT_THE_POLICYS,
    SamplingSettings,
    engine_kwargs_problems,
)

# What every engine is offered, and where it is set.
GIVEN = {
    "model": "model_config['model']",
    "dtype": "model_config['dtype']",
    "lora": "model_config['lora']",
    "trust_remote_code": "model_config['trust_remote_code']",
    "revision": "model_config['revision']",
    "stop_token_ids": "sampling['stop']",
    "gpu_share": "num_gpus_per_env_runner",
}


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

    The constructor is given by name, of these, what it has parameters for: `model` (folder or hub
    id), `dtype` (name), `stop_token_ids` (a reply ends with any of them), `gpu_share` (the fraction
    of a GPU that the runner has; 0 on a CPU), `lora` (arguments of `peft.LoraConfig`, or None:
    weights are then those of an adapter to the model), `trust_remote_code` and `revision` if they
    are set; and what the user gave as `engine_kwargs`. What a class says of itself is asked before
    anything starts.

    Attributes:
        samples_policy: Whether replies are the policy's, with its log-probs. Then some are compared
            with the learner's when training begins.
        more_memory: What to do where its weights do not fit.
        max_model_len: Prompt and reply together have at most this many tokens.
        takes_weights_in_flight: Whether `load_weights` may be called while there are requests,
            which then go on under the new weights from what they have said so far.
    """

    samples_policy: ClassVar[bool] = True
    more_memory: ClassVar[str] = "use a device with more memory"
    max_model_len: int
    takes_weights_in_flight = False

    @classmethod
    def problems(cls, settings: Mapping[str, Any]) -> list[str]:
        """What is wrong with `engine_kwargs`, each as `field=value: what would be right`.

        As it is: what would part log-probs from what is sampled from, and what the constructor has
        no parameter for.
        """
        others = {key: value for key, value in settings.items() if key not in NOT_THE_POLICYS}
        return [
            *engine_kwargs_problems(settings),
            *argument_problems("engine_kwargs", others, cls, name=cls.__name__, elsewhere=GIVEN),
        ]

    @classmethod
    def resource_problems(cls, gpu_share: float) -> list[str]:
        """Whether it is installed, and runs on the fraction of a GPU that it is given."""
        return []

    @classmethod
    def lora_problems(cls, lora: Mapping[str, Any]) -> list[str]:
        """What of an adapter's settings, which peft takes, the engine cannot serve."""
        named, anything = parameters_of(cls)
        if anything or "lora" in named:
            return []
        return [f"model_config['lora']={lora!r}: must be None with {cls.__name__}"]

    @classmethod
    def memory(cls, load: EngineLoad) -> EngineMemory:
        """What it takes of each of its devices. As it is: the weights."""
        return EngineMemory(load.weights, None, load.kv_bytes_per_token, load.usable)

    @classmethod
    def memory_problems(cls, load: EngineLoad, memory: EngineMemory) -> list[str]:
        """What does not fit, with the largest setting that would."""
        if memory.limit is None or memory.weights < memory.limit:
            return []
        return [
            f"engine_kwargs: an engine's weights need {in_gb(memory.weights)} GB of "
            f"{in_gb(memory.limit)} GB; {cls.more_memory}"
        ]

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
                names of peft's files. Until then an adapter changes nothing. Their memory may be
                the learner's, or one that other processes read: it is neither written to nor kept.
        """

    def name_weights(self, version: int) -> None:  # noqa: B027
        """Says which version the engine runs, after a load.

        An engine that finishes in a step what it begins there need not know.
        """

    def receive_weights(
        self, init_info: Mapping[str, Any] | None, update_info: Mapping[str, Any]
    ) -> None:
        """Replaces the weights by what the learners send to its devices at the same time.

        Until it is over the engine is of no use, nor if it fails, until whole weights came.

        Args:
            init_info: How to meet the learners; None: as the last time.
            update_info: What comes.
        """
        raise NotImplementedError(f"{type(self).__name__} takes weights by the object store alone")

    def sleep(self) -> None:
        """Gives its devices' memory to others, until it is given weights. Nothing is in flight."""
        raise NotImplementedError(f"{type(self).__name__} does not sleep")

    def logprobs(
        self,
        token_ids: Sequence[Sequence[int]],
        prompt_lens: Sequence[int],
        sampling: SamplingSettings,
    ) -> list[np.ndarray]:
        """Log-probs of given replies, by the path and under the distribution used in sampling.

        Training does not ask for them; they show what weights an engine runs.

        Args:
            token_ids: Prompt and reply of each sequence.
            prompt_lens: Number of prompt tokens in each.
            sampling: The distribution.

        Returns:
            For each sequence the log-probs of its reply, float32, shape (len - prompt_len,).
        """
        raise NotImplementedError(f"{type(self).__name__} does not score replies")

    @abstractmethod
    def close(self) -> None:
        """Frees memory and devices. A second call does nothing."""
