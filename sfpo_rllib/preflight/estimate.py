"""Whether a config's learners and engines fit their devices, before anything starts."""

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, PretrainedConfig

from sfpo_rllib.core.update_rules import rule_name
from sfpo_rllib.env_runners.engines.context import context_length
from sfpo_rllib.env_runners.engines.transformers_engine import MAX_BATCH_SIZE
from sfpo_rllib.preflight.footprint import Footprint, measure_footprint
from sfpo_rllib.preflight.memory import (
    EngineMemory,
    LearnerMemory,
    LearnerSettings,
    engine_memory,
    learner_memory,
)
from sfpo_rllib.rl_modules.causal_lm import MODEL_CONFIG_KEYS
from sfpo_rllib.rl_modules.token_logprobs import chunk_tokens
from sfpo_rllib.rl_modules.weights import DTYPES

if TYPE_CHECKING:
    from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig

GB = 10**9
USABLE = 0.95  # of a device; the rest is for the CUDA context and fragmentation
_MOST_LEARNERS = 1024


@dataclass(frozen=True)
class Preflight:
    """An estimate of memory per device; `print()` shows it as a table.

    Attributes:
        model: Sizes of the model and of a pass.
        settings: What else the learner's memory depends on.
        learner: On a learner's device.
        engine: On an engine's device.
        learner_limit: Bytes that a learner may use; None if that is not known here.
        engine_limit: Bytes that an engine may use; None if that is not known here.
        least_tokens: Of one reply: a micro-batch has no fewer.
        longest_sequence: Tokens that an engine must be able to hold.
        engine_sequences: That the transformers engine decodes at once; None with vLLM, which
            makes do with the cache it has.
        rule: Name of the update rule.
        enforced: Whether too little memory is an error. On a CPU it is a warning: a host may swap.
        weight_copies: Versions of the weights that Ray's object store holds.
    """

    model: Footprint
    settings: LearnerSettings
    learner: LearnerMemory
    engine: EngineMemory
    learner_limit: int | None
    engine_limit: int | None
    least_tokens: int
    longest_sequence: int
    engine_sequences: int | None
    rule: str
    enforced: bool
    weight_copies: int = 0

    @property
    def published(self) -> int:
        """Bytes of weights in Ray's object store, in host memory."""
        return self.weight_copies * self.model.trained_parameters * self.settings.compute_bytes

    def problems(self) -> Iterator[str]:
        """What does not fit, each with the largest setting that would."""
        if self.learner_limit is not None and self.learner.peak > self.learner_limit:
            yield self._learner_problem(self.learner_limit)
        if self.engine_limit is not None and self.engine.weights >= self.engine_limit:
            yield (
                f"engine_kwargs: an engine's weights need {_gb(self.engine.weights)} GB of "
                f"{_gb(self.engine_limit)} GB; raise gpu_memory_utilization or "
                "tensor_parallel_size"
            )
            return
        if self.engine_sequences is not None:
            yield from self._cache_problems(self.engine_sequences)
            return
        cached = self.engine.cached_tokens
        if cached is not None and cached < self.longest_sequence:
            yield (
                f"engine_kwargs['max_model_len']={self.longest_sequence}: the key-value cache "
                f"holds {cached} tokens; at most {cached} fits, or raise gpu_memory_utilization or "
                "kv_cache_memory_bytes"
            )

    def _cache_problems(self, sequences: int) -> Iterator[str]:
        """Of a cache that grows with what is sampled: the table has the most that it can be.

        That takes prompts and replies as long as the context. Refused is what does not fit if
        replies alone are as long as they may be.
        """
        each = self.least_tokens * self.engine.kv_bytes_per_token
        room = None if self.engine_limit is None else self.engine_limit - self.engine.weights
        if room is not None and sequences * each > room:
            yield (
                f"engine_kwargs['max_batch_size']={sequences}: the key-value cache of replies of "
                f"{self.least_tokens} tokens needs {_gb(sequences * each)} GB of {_gb(room)} GB; "
                f"at most {room // each} fits"
            )

    def _learner_problem(self, limit: int) -> str:
        tokens = self.largest_micro_batch()
        needs = f"a learner needs {_gb(self.learner.peak)} GB of {_gb(limit)} GB"
        if tokens is not None:
            return (
                f"max_tokens_per_micro_batch={self.settings.micro_batch_tokens}: {needs}; at most "
                f"{tokens} fits"
            )
        given = f"num_learners={self.settings.num_learners}: {needs}, and no micro-batch is small"
        number = self.least_learners()
        if number is None:
            return (
                f"{given} enough, on however many learners; use gradient_checkpointing, shorter "
                "replies or a device with more memory"
            )
        return (
            f"{given} enough; the model needs sharding, parallelism='fsdp' over at least {number} "
            "learners"
        )

    def largest_micro_batch(self) -> int | None:
        """The largest `max_tokens_per_micro_batch` that fits; None if none does.

        Raises:
            ValueError: If the learner's limit is not known.
        """
        low, high = self.least_tokens, max(self.settings.micro_batch_tokens, self.least_tokens)
        if not self._fits(micro_batch_tokens=low):
            return None
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(micro_batch_tokens=middle):
                low = middle
            else:
                high = middle - 1
        return low

    def least_learners(self) -> int | None:
        """The number of learners over which the model must be sharded; None if none will do.

        Raises:
            ValueError: If the learner's limit is not known.
        """
        for number in range(1, _MOST_LEARNERS + 1):
            if self._fits(
                parallelism="fsdp", num_learners=number, micro_batch_tokens=self.least_tokens
            ):
                return number
        return None

    def _fits(self, **changes: Any) -> bool:
        if self.learner_limit is None:
            raise ValueError("device_memory_gb=None: must be given, no GPU is visible here")
        return learner_memory(self.model, replace(self.settings, **changes)).peak <= (
            self.learner_limit
        )

    def __str__(self) -> str:
        settings, learner, engine = self.settings, self.learner, self.engine
        frozen = [("weights that are not trained", learner.frozen)] if learner.frozen else []
        rows: list[tuple[str, int | None]] = [
            *frozen,
            ("weights, float32", learner.masters),
            ("gradients", learner.gradients),
            (f"optimizer state ({settings.optimizer})", learner.optimizer_state),
            (f"snapshot ({self.rule})", learner.snapshot),
            ("reference", learner.reference),
            ("all-reduce buckets", learner.buckets),
            ("weights, compute copy", learner.compute_weights),
            (f"activations, {settings.micro_batch_tokens} tokens", learner.activations),
            (f"logits, {settings.logit_tokens} tokens", learner.logits),
            ("or: the optimizer's step", learner.optimizer_step),
            ("at most", learner.peak),
            ("may use", self.learner_limit),
        ]
        engine_rows: list[tuple[str, int | None]] = [
            ("weights", engine.weights),
            ("key-value cache", engine.kv_cache),
            ("may use", self.engine_limit),
        ]
        if engine.cached_tokens is not None:
            engine_rows[1] = (f"key-value cache, {engine.cached_tokens} tokens", engine.kv_cache)
        heading = f"learner, 1 of {settings.num_learners} ({settings.parallelism})"
        return "\n".join(
            [
                f"{heading:<40}{'GB':>10}",
                *_table(rows),
                f"{'engine':<40}{'GB':>10}",
                *_table(engine_rows),
                f"{'object store':<40}{'GB':>10}",
                *_table([(f"weights, {self.weight_copies} versions", self.published)]),
            ]
        )


def preflight(
    config: "GRPOConfig",
    *,
    parallelism: str = "ddp",
    device_memory_gb: float | None = None,
    model_config: PretrainedConfig | None = None,
) -> Preflight:
    """Estimates what a config needs. No weights are loaded.

    Args:
        config: The config.
        parallelism: "ddp", or "fsdp" for a model that is sharded over the learners.
        device_memory_gb: Of each GPU, in 10^9 bytes. None: of the first GPU visible here, or of
            the host if none is asked for.
        model_config: Instead of that of `config.model_config["model"]`.

    Raises:
        ValueError: If `parallelism` is unknown.
    """
    settings = {**MODEL_CONFIG_KEYS, **config.model_config}
    source = {"trust_remote_code": settings["trust_remote_code"]}
    if model_config is None:
        model_config = AutoConfig.from_pretrained(
            settings["model"], revision=settings["revision"], **source
        )
    context = context_length(model_config, config.engine_kwargs)
    # A micro-batch is never larger than the mini-batch it is cut from.
    tokens = min(config.max_tokens_per_micro_batch, config.effective_minibatch_size * context)
    dtype = DTYPES[settings["dtype"]]
    kind: Any = type(model_config)
    model = _footprint(
        model_config.to_json_string(use_diff=False),
        kind,
        length=min(tokens, context),
        compute_dtype=dtype,
        gradient_checkpointing=bool(settings["gradient_checkpointing"]),
        optimizer=config.optimizer,
        optimizer_kwargs=_Frozen(config.optimizer_kwargs),
        attn_implementation=settings["attn_implementation"],
        lora=None if settings["lora"] is None else _Frozen(settings["lora"]),
        **source,
    )
    on_gpu = config.num_gpus_per_learner > 0
    rule = config.make_update_rule()
    learner_settings = LearnerSettings(
        num_learners=max(config.num_learners, 1),
        parallelism=parallelism,
        compute_bytes=dtype.itemsize,
        optimizer=config.optimizer,
        parameter_copies=rule.parameter_copies if config.snapshot_device is None else 0,
        holds_reference=bool(config.kl_coeff) and not settings.get("lora"),  # the adapter is off
        micro_batch_tokens=tokens,
        logit_tokens=min(tokens, chunk_tokens(model.vocab_size)),
        bucket_views=bool(config.torch_ddp_kwargs.get("gradient_as_bucket_view")),
        on_gpu=on_gpu,
    )
    learner = learner_memory(model, learner_settings)
    device = _device_bytes(on_gpu, device_memory_gb)
    sequences = _engine_sequences(config)
    engine, engine_limit = _engine(
        config,
        model,
        dtype.itemsize,
        device_memory_gb,
        cached_tokens=None if sequences is None else sequences * context,
    )
    limit = device and int(USABLE * device * (min(config.num_gpus_per_learner, 1.0) or 1.0))
    if config.num_env_runners == 0 and config.num_learners == 0:  # one process for both
        # vLLM keeps its cache; that of the transformers engine is gone when the learner works.
        limit = limit and max(limit - (engine.peak if sequences is None else engine.weights), 0)
        if sequences is not None:
            engine_limit = engine_limit and max(engine_limit - learner.resident, 0)
    return Preflight(
        model=model,
        settings=learner_settings,
        learner=learner,
        engine=engine,
        learner_limit=limit,
        engine_limit=engine_limit,
        least_tokens=min(config.sampling_settings.max_tokens, context),
        longest_sequence=context,
        engine_sequences=sequences,
        rule=rule_name(rule),
        enforced=on_gpu or device_memory_gb is not None,
        weight_copies=config.stream_settings.weight_copies,
    )


def _engine_sequences(config: "GRPOConfig") -> int | None:
    """Sequences that a transformers engine decodes at once: never more than are asked for."""
    if config.rollout_engine != "transformers":
        return None
    asked = max(config.total_train_batch_size, int(config.evaluation_duration))
    return min(config.engine_kwargs.get("max_batch_size", MAX_BATCH_SIZE), asked)


def _engine(
    config: "GRPOConfig",
    model: Footprint,
    compute_bytes: int,
    device_memory_gb: float | None,
    *,
    cached_tokens: int | None,
) -> tuple[EngineMemory, int | None]:
    """An engine's memory and what it may use, with a cache of so many tokens if that is known."""
    local = config.num_env_runners == 0
    share = config.num_gpus_per_learner / 2 if local else config.num_gpus_per_env_runner
    kwargs = config.engine_kwargs
    device = _device_bytes(share > 0, device_memory_gb)
    vllm_on_gpu = config.rollout_engine == "vllm" and (share > 0 or device_memory_gb is not None)
    limit = device and int(USABLE * device)
    if device and vllm_on_gpu:  # as the engine itself bounds it
        limit = int(kwargs.get("gpu_memory_utilization", 0.9 * min(share or 1.0, 1.0)) * device)
    cache = kwargs.get("kv_cache_memory_bytes")
    if cached_tokens is not None:
        cache = cached_tokens * model.kv_values * compute_bytes
    engine = engine_memory(
        model,
        compute_bytes=compute_bytes,
        tensor_parallel_size=kwargs.get("tensor_parallel_size", 1),
        kv_cache_bytes=cache,
        allowed_bytes=limit if vllm_on_gpu else None,
    )
    return engine, limit


def _device_bytes(on_gpu: bool, device_memory_gb: float | None) -> int | None:
    if device_memory_gb is not None:
        return int(device_memory_gb * GB)
    if not on_gpu:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return None  # the GPUs are on another machine


class _Frozen(dict[str, Any]):
    """A dict that may be part of a cache's key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(sorted(self.items())))


@functools.lru_cache(maxsize=8)
def _footprint(model_json: str, kind: Any, **settings: Any) -> Footprint:
    """A build and a second one, with a process's later algorithms, trace a model once."""
    return measure_footprint(kind.from_dict(json.loads(model_json)), **settings)


def _table(rows: list[tuple[str, int | None]]) -> list[str]:
    return [
        f"  {label:<38}{'not known here' if size is None else _gb(size):>10}"
        for label, size in rows
    ]


def _gb(size: int) -> str:
    digits = 1 if size >= GB or size == 0 else 4
    return f"{size / GB:.{digits}f}"
