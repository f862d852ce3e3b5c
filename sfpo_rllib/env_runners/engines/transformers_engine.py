"""A rollout engine on plain transformers: no vLLM needed, for small work and exact resumes."""

import functools
import inspect
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ray.rllib.utils.annotations import override
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel

from sfpo_rllib.core.checks import is_int
from sfpo_rllib.env_runners.engines.base import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.engines.memory import EngineLoad, EngineMemory, in_gb
from sfpo_rllib.env_runners.engines.stopping import StopStrings
from sfpo_rllib.rl_modules.lora import add_lora, load_adapter
from sfpo_rllib.rl_modules.recurrence import is_recurrent
from sfpo_rllib.rl_modules.weights import DTYPES, load_weights

MAX_BATCH_SIZE = 512

# (step, rows of the batch still running, their log-probs (rows, V)) -> the next tokens (rows,)
Choose = Callable[[int, np.ndarray, torch.Tensor], torch.Tensor]
# (row of the batch, its newest token) -> whether the reply ends there
Ends = Callable[[int, int], bool]


class TransformersEngine(RolloutEngine):
    """Batched sampling with a cache; a step finishes one batch.

    Every request draws from a random stream of its own, so a reply does not depend on the others
    in its batch, up to the rounding of the forward pass. Padding would enter the states of
    recurrent layers: with a model that has any, the prompts of a batch are of one length.
    """

    takes_weights_in_flight = True  # between two steps no reply is half done

    def __init__(
        self,
        *,
        model: str,
        dtype: str,
        stop_token_ids: Sequence[int],
        max_batch_size: int = MAX_BATCH_SIZE,
        max_model_len: int | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        """Loads the model.

        Args:
            model: Folder or hub id.
            dtype: Compute dtype, "float32" or "bfloat16".
            stop_token_ids: A reply ends with any of these.
            max_batch_size: Replies sampled at once; bounds the memory of the cache.
            max_model_len: Longest prompt and reply together; the model's own limit by default.
            device: By default the first GPU, if there is one.
            trust_remote_code: As in transformers.
            revision: As in transformers.
            lora: Arguments of `peft.LoraConfig`: weights are those of an adapter to the model.
        """
        self._device = torch.device(device or ("cuda:0" if torch.cuda.is_available() else "cpu"))
        source: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision}
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model, dtype=DTYPES[dtype], **source
        )
        if lora is not None:
            add_lora(self._model, lora)
        self._lora = lora
        # Stop strings alone need one.
        self._load_tokenizer = functools.cache(
            lambda: AutoTokenizer.from_pretrained(model, **source)
        )
        self._model.to(self._device).eval()
        self._cache_name = _cache_name(self._model)
        self._is_recurrent = is_recurrent(self._model)
        self._stop = frozenset(stop_token_ids)
        self._max_batch_size = max_batch_size
        self.max_model_len = context_length(self._model.config, {"max_model_len": max_model_len})
        self._queue: list[GenerationRequest] = []

    @classmethod
    @override(RolloutEngine)
    def problems(cls, settings: Mapping[str, Any]) -> list[str]:
        numbers = {key: settings.get(key) for key in ("max_batch_size", "max_model_len")}
        return super().problems(settings) + [
            f"engine_kwargs[{key!r}]={value!r}: must be an integer >= 1"
            for key, value in numbers.items()
            if value is not None and not is_int(value, 1)
        ]

    @classmethod
    @override(RolloutEngine)
    def memory(cls, load: EngineLoad) -> EngineMemory:
        """The cache grows with what is sampled: the most it can be, all as long as the context."""
        each = load.kv_bytes_per_token
        cache = _sequences(load) * load.context * each
        return EngineMemory(load.weights, cache, each, load.usable, keeps_cache=False)

    @classmethod
    @override(RolloutEngine)
    def memory_problems(cls, load: EngineLoad, memory: EngineMemory) -> list[str]:
        """Refused is what does not fit if replies alone are as long as they may be."""
        problems = super().memory_problems(load, memory)
        if problems or memory.limit is None:
            return problems
        number, each = _sequences(load), load.reply_tokens * memory.kv_bytes_per_token
        room = memory.limit - memory.weights
        if number * each <= room:
            return []
        return [
            f"engine_kwargs['max_batch_size']={number}: the key-value cache of replies of "
            f"{load.reply_tokens} tokens needs {in_gb(number * each)} GB of {in_gb(room)} GB; at "
            f"most {room // each} fits"
        ]

    @override(RolloutEngine)
    def submit(self, request: GenerationRequest) -> None:
        self._queue.append(request)

    @override(RolloutEngine)
    def step(self) -> list[Completion]:
        if not self._queue:
            return []
        batch = self._next_batch(self._queue)
        longest = max(request.sampling.max_tokens for request in batch)
        draws = np.stack([np.random.default_rng(r.seed).random(longest) for r in batch])
        greedy = batch[0].sampling.temperature == 0

        def choose(step: int, rows: np.ndarray, logp: torch.Tensor) -> torch.Tensor:
            if greedy:
                return logp.argmax(dim=-1)
            cumulative = logp.double().exp().cumsum(dim=-1)
            uniform = torch.from_numpy(draws[rows, step]).to(cumulative.device)
            point = uniform.unsqueeze(1) * cumulative[:, -1:]
            return torch.searchsorted(cumulative, point, right=True).squeeze(1)

        return self._decode(batch, choose, self._ends(batch))

    def _ends(self, batch: Sequence[GenerationRequest]) -> Ends:
        """Where the replies of a batch end, besides at their `max_tokens`."""
        strings = [
            StopStrings(self._load_tokenizer(), request.prompt_ids, request.sampling.stop)
            for request in batch
            if request.sampling.stop  # all or none, as they share a distribution
        ]
        if not strings:
            return lambda row, token: token in self._stop
        return lambda row, token: strings[row].completed_by(token) or token in self._stop

    def _next_batch(self, queue: list[GenerationRequest]) -> list[GenerationRequest]:
        """Takes from the queue what can be decoded together with its first request."""
        # A batch shares its distribution; training and evaluation never mix in practice.
        kind = self._kind(queue[0])
        batch = [request for request in queue if self._kind(request) == kind]
        batch = batch[: self._max_batch_size]
        taken = set(map(id, batch))
        queue[:] = [request for request in queue if id(request) not in taken]
        return batch

    def _kind(self, request: GenerationRequest) -> tuple[SamplingSettings, int | None]:
        """Equal for requests that may share a batch."""
        distribution = replace(request.sampling, max_tokens=0)
        return distribution, len(request.prompt_ids) if self._is_recurrent else None

    @override(RolloutEngine)
    def abort(self) -> None:
        self._queue.clear()

    @override(RolloutEngine)
    def abort_requests(self, request_ids: Collection[int]) -> None:
        dropped = frozenset(request_ids)
        self._queue = [request for request in self._queue if request.request_id not in dropped]

    @override(RolloutEngine)
    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        if self._lora is None:
            load_weights(self._model, weights)
        else:
            load_adapter(self._model, weights)

    @override(RolloutEngine)
    def logprobs(
        self,
        token_ids: Sequence[Sequence[int]],
        prompt_lens: Sequence[int],
        sampling: SamplingSettings,
    ) -> list[np.ndarray]:
        requests = [
            GenerationRequest(row, ids[:n], 0, replace(sampling, max_tokens=len(ids) - n))
            for row, (ids, n) in enumerate(zip(token_ids, prompt_lens, strict=True))
        ]
        result: dict[int, np.ndarray] = {}
        while requests:
            batch = self._next_batch(requests)
            replies = [token_ids[r.request_id][len(r.prompt_ids) :] for r in batch]
            result |= {
                completion.request_id: completion.logprobs
                for completion in self._decode(batch, _forced(replies), lambda row, token: False)
            }
        return [result[row] for row in range(len(token_ids))]

    @override(RolloutEngine)
    def close(self) -> None:
        self._queue.clear()
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def _decode(
        self, batch: list[GenerationRequest], choose: Choose, ends: Ends
    ) -> list[Completion]:
        """Decodes a batch to its end; completions come in the order of the requests."""
        lengths = [len(request.prompt_ids) for request in batch]
        width = max(lengths)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        for row, request in enumerate(batch):  # on the left, so that replies start together
            ids[row, width - lengths[row] :] = torch.tensor(list(request.prompt_ids))
            mask[row, width - lengths[row] :] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)

        tokens: list[list[int]] = [[] for _ in batch]
        logprobs: list[list[float]] = [[] for _ in batch]
        ended = [False] * len(batch)
        cache = DynamicCache(config=self._model.config)
        rows = np.arange(len(batch))  # of the requests still running
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        for step in itertools.count():
            logits = self._model(
                input_ids=ids,
                attention_mask=None if self._is_recurrent else mask,
                position_ids=positions,
                use_cache=True,
                logits_to_keep=1,
                **{self._cache_name: cache},
            ).logits[:, -1]
            logp = _log_probs(logits.float(), batch[0].sampling)
            chosen = choose(step, rows, logp)
            chosen_logp = logp.gather(1, chosen.unsqueeze(1)).squeeze(1).tolist()
            running = []
            for place, (row, token) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
                tokens[row].append(token)
                logprobs[row].append(chosen_logp[place])
                ended[row] = ends(row, token)
                if not ended[row] and len(tokens[row]) < batch[row].sampling.max_tokens:
                    running.append(place)
            if not running:
                break
            if len(running) < len(rows):  # finished replies leave the batch
                kept = torch.tensor(running, device=self._device)
                cache.reorder_cache(kept)  # all layers; batch_select_indices knows attention only
                rows, chosen = rows[running], chosen[kept]
                mask, positions = mask[kept], positions[kept]
            ids = chosen.unsqueeze(1)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1

        return [
            Completion(
                request_id=request.request_id,
                token_ids=np.array(tokens[row], np.int32),
                logprobs=np.array(logprobs[row], np.float32),
                truncated=not ended[row],
            )
            for row, request in enumerate(batch)
        ]


def _sequences(load: EngineLoad) -> int:
    """Sequences that are decoded at once: never more than are asked for."""
    return min(int(load.settings.get("max_batch_size", MAX_BATCH_SIZE)), load.num_sequences)


def _cache_name(model: PreTrainedModel) -> str:
    """The argument of a model's forward pass that takes its cache."""
    known = inspect.signature(model.forward).parameters
    # Mamba and its like; others would go on without a cache, silently.
    return "cache_params" if "cache_params" in known else "past_key_values"


def _forced(replies: Sequence[Sequence[int]]) -> Choose:
    """Chooses the tokens of given replies."""

    def choose(step: int, rows: np.ndarray, logp: torch.Tensor) -> torch.Tensor:
        return torch.tensor([replies[row][step] for row in rows], device=logp.device)

    return choose


def _log_probs(logits: torch.Tensor, sampling: SamplingSettings) -> torch.Tensor:
    """Log-probs after temperature, top_k and top_p, shape (B, V), -inf where cut off."""
    logits = logits / (sampling.temperature or 1.0)
    if sampling.top_k:
        least = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        cut = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, before >= sampling.top_p)
        logits = logits.masked_fill(cut, -torch.inf)
    return logits.log_softmax(dim=-1)
