"""Whether learners and engines fit their devices, before anything starts."""

import functools
import json
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PretrainedConfig

from sfpo_rllib.core.optimizers import optimizer_name
from sfpo_rllib.env_runners.engines import RolloutEngine
from sfpo_rllib.env_runners.engines.memory import GB, USABLE, EngineLoad, EngineMemory, in_gb
from sfpo_rllib.preflight.memory import LearnerMemory, LearnerSettings, learner_memory
from sfpo_rllib.rl_modules.footprint import Footprint, measure_footprint
from sfpo_rllib.rl_modules.parallelism import sharding
from sfpo_rllib.rl_modules.token_logprobs import chunk_tokens
from sfpo_rllib.rl_modules.weights import DTYPES
from sfpo_rllib.token_trace import BYTES_PER_TOKEN

_MOST_LEARNERS = 1024


@dataclass(frozen=True)
class Preflight:
    """An estimate of memory per device; `print()` shows it as a table.

    Attributes:
        model: Sizes of the model and of a pass.
        settings: What else the learner's memory depends on.
        learner: On a learner's device.
        learner_limit: Bytes that a learner may use; None if that is not known here.
        load: What an engine is to hold.
        engine: On an engine's device.
        engine_problems: What of the engine does not fit.
        rule: Name of the update rule.
        enforced: Whether too little memory is an error. On a CPU it is a warning: a host may swap.
        weight_copies: Versions of the weights that Ray's object store holds.
        open_tokens: Of the batches that are open, at most; the store holds them, too.
    """

    model: Footprint
    settings: LearnerSettings
    learner: LearnerMemory
    learner_limit: int | None
    load: EngineLoad
    engine: EngineMemory
    engine_problems: list[str]
    rule: str
    enforced: bool
    weight_copies: int = 0
    open_tokens: int = 0

    @property
    def published(self) -> int:
        """Bytes of weights in Ray's object store, in host memory."""
        return self.weight_copies * self.model.trained_parameters * self.settings.compute_bytes

    @property
    def stored(self) -> int:
        """Bytes in Ray's object store at most, in host memory."""
        return self.published + self.open_tokens * BYTES_PER_TOKEN

    def problems(self) -> Iterator[str]:
        """What does not fit, each with the largest setting that would."""
        if self.learner_limit is not None and self.learner.peak > self.learner_limit:
            yield self._learner_problem(self.learner_limit)
        yield from self.engine_problems

    def _learner_problem(self, limit: int) -> str:
        tokens, number = self.largest_micro_batch(), self.least_learners()
        needs = f"a learner needs {in_gb(self.learner.peak)} GB of {in_gb(limit)} GB"
        if tokens is not None:
            given = f"max_tokens_per_micro_batch={self.settings.micro_batch_tokens}"
            return f"{given}: {needs}; at most {tokens} fits"
        given = f"num_learners={self.settings.num_learners}: {needs}, and no micro-batch is small"
        if number is None:
            return (
                f"{given} enough, on however many learners; use gradient_checkpointing, shorter "
                "replies or a device with more memory"
            )
        return (
            f"{given} enough; the model needs sharding, parallelism={sharding()!r} over at "
            f"least {number} learners"
        )

    def largest_micro_batch(self) -> int | None:
        """The largest `max_tokens_per_micro_batch` that fits; None if none does.

        Raises:
            ValueError: If the learner's limit is not known.
        """
        least = self.load.reply_tokens  # a micro-batch has no fewer
        sizes = range(least, max(self.settings.micro_batch_tokens, least) + 1)
        fitting = bisect_left(sizes, 1, key=lambda n: not self._fits(micro_batch_tokens=n))
        return sizes[fitting - 1] if fitting else None

    def least_learners(self) -> int | None:
        """The number of learners over which the model must be sharded; None if none will do.

        Raises:
            ValueError: If the learner's limit is not known.
        """
        changes = {"parallelism": sharding(), "micro_batch_tokens": self.load.reply_tokens}
        numbers = range(1, _MOST_LEARNERS + 1)
        return next((n for n in numbers if self._fits(num_learners=n, **changes)), None)

    def _fits(self, **changes: Any) -> bool:
        if self.learner_limit is None:
            raise ValueError("device_memory_gb=None: must be given, no GPU is visible here")
        changed = learner_memory(self.model, replace(self.settings, **changes))
        return changed.peak <= self.learner_limit

    def tables(self) -> dict[str, dict[str, int | None]]:
        """The estimate in bytes, by label, of learner, engine and object store."""
        settings, learner, engine = self.settings, self.learner, self.engine
        cached = "" if engine.cached_tokens is None else f", {engine.cached_tokens} tokens"
        frozen = {"weights that are not trained": learner.frozen} if learner.frozen else {}
        rows: dict[str, int | None] = {
            **frozen,
            "weights, float32": learner.masters,
            "gradients": learner.gradients,
            f"optimizer state ({optimizer_name(settings.optimizer)})": learner.optimizer_state,
            f"snapshot ({self.rule})": learner.snapshot,
            "reference": learner.reference,
            "all-reduce buckets": learner.buckets,
            "weights, compute copy": learner.compute_weights,
            f"activations, {settings.micro_batch_tokens} tokens": learner.activations,
            f"logits, {settings.logit_tokens} tokens": learner.logits,
            "or: the optimizer's step": learner.optimizer_step,
            "at most": learner.peak,
            "may use": self.learner_limit,
        }
        engine_rows = {
            "weights": engine.weights,
            f"key-value cache{cached}": engine.kv_cache,
            "may use": engine.limit,
        }
        stored: dict[str, int | None] = {
            f"weights, {self.weight_copies} versions": self.published,
            f"episodes, at most {self.open_tokens} tokens": self.stored - self.published,
        }
        return {
            f"learner, 1 of {settings.num_learners} ({settings.parallelism})": rows,
            "engine": engine_rows,
            "object store": stored,
        }

    def __str__(self) -> str:
        tables = (_table(heading, rows) for heading, rows in self.tables().items())
        return "\n".join(line for table in tables for line in table)


def preflight(
    model_config: PretrainedConfig,
    *,
    model: Mapping[str, Any],
    learners: LearnerSettings,
    optimizer_kwargs: Mapping[str, Any],
    learner_gpus: float,
    engine: type[RolloutEngine],
    load: EngineLoad,
    one_process: bool,
    rule: str,
    weight_copies: int,
    open_tokens: int,
    device_memory_gb: float | None,
) -> Preflight:
    """Estimates what learners and engines need. No weights are loaded.

    Args:
        model_config: Of the model.
        model: As in `rl_module(model_config=...)`, all of `MODEL_CONFIG_KEYS`.
        learners: What depends on the model, dtype and chunk of logits, is filled in.
        optimizer_kwargs: Of the optimizer.
        learner_gpus: The GPUs of one learner.
        engine: Its class.
        load: Of the engine; what depends on model and device is filled in.
        one_process: Whether learner and engine share theirs, and so the device.
        rule: Name of the update rule.
        weight_copies: Versions of the weights that Ray's object store holds.
        open_tokens: Of the batches that are open, at most.
        device_memory_gb: Of each GPU, in 10^9 bytes. None: of the first GPU visible here, or of the
            host if none is asked for.
    """
    dtype = DTYPES[model["dtype"]]
    lora = model["lora"]
    kind: Any = type(model_config)
    sizes = _footprint(
        model_config.to_json_string(use_diff=False),
        kind,
        length=min(learners.micro_batch_tokens, load.context),
        compute_dtype=dtype,
        gradient_checkpointing=bool(model["gradient_checkpointing"]),
        optimizer=learners.optimizer,
        optimizer_kwargs=_Frozen(optimizer_kwargs),
        attn_implementation=model["attn_implementation"],
        lora=None if lora is None else _Frozen(lora),
        trust_remote_code=model["trust_remote_code"],
    )
    learners = replace(
        learners,
        compute_bytes=dtype.itemsize,
        logit_tokens=min(learners.micro_batch_tokens, chunk_tokens(sizes.vocab_size)),
    )
    load = replace(
        load,
        weights=dtype.itemsize * sizes.num_parameters,
        kv_bytes_per_token=dtype.itemsize * sizes.kv_values,
        on_gpu=load.gpu_share > 0 or device_memory_gb is not None,
        device=_device_bytes(load.gpu_share > 0, device_memory_gb),
    )
    learner, memory = learner_memory(sizes, learners), engine.memory(load)
    device = _device_bytes(learners.on_gpu, device_memory_gb)
    limit = device and int(USABLE * device * (min(learner_gpus, 1.0) or 1.0))
    if one_process:  # an engine that lets go of its cache works in turns with the learner
        limit = limit and max(limit - memory.resident, 0)
        if not memory.keeps_cache and memory.limit:
            memory = replace(memory, limit=max(memory.limit - learner.resident, 0))
    return Preflight(
        model=sizes,
        settings=learners,
        learner=learner,
        learner_limit=limit,
        load=load,
        engine=memory,
        engine_problems=engine.memory_problems(load, memory),
        rule=rule,
        enforced=learners.on_gpu or device_memory_gb is not None,
        weight_copies=weight_copies,
        open_tokens=open_tokens,
    )


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


def _table(heading: str, rows: Mapping[str, int | None]) -> Iterator[str]:
    yield f"{heading:<40}{'GB':>10}"
    for label, size in rows.items():
        yield f"  {label:<38}{'not known here' if size is None else in_gb(size):>10}"
