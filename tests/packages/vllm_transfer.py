"""A weight transfer of vLLM's that needs no GPU: it reads what is sent from a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from safetensors.torch import load_file, save_file

NAME = "from_file"


def register() -> None:
    """Makes it known to vLLM, in this process."""
    from vllm.distributed.weight_transfer.base import (
        WeightTransferEngine,
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
    from vllm.model_executor.model_loader.reload import (
        finalize_layerwise_reload,
        initialize_layerwise_reload,
    )

    from sfpo_rllib.env_runners.engines.vllm_loading import _sharing_a_weight

    @dataclass
    class InitInfo(WeightTransferInitInfo):
        folder: str

    @dataclass
    class UpdateInfo(WeightTransferUpdateInfo):
        names: list[str]
        breaks_off: bool = False

    class FromFile(WeightTransferEngine[InitInfo, UpdateInfo]):
        init_info_cls = InitInfo
        update_info_cls = UpdateInfo

        def init_transfer_engine(self, init_info: InitInfo) -> None:
            self.folder = Path(init_info.folder)

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            self.receive_weights(self.parse_update_info(update_info))

        def receive_weights(self, update_info: UpdateInfo) -> None:
            sent = load_file(self.folder / "sent.safetensors")
            names = update_info.names
            if update_info.breaks_off:
                self.model.load_weights((name, sent[name]) for name in names[: len(names) // 2])
                raise ConnectionError("the sender is gone")
            self.model.load_weights((name, sent[name]) for name in names)

        def finish_weight_update(self) -> None:
            finalize_layerwise_reload(self.model, self.model_config)
            for layer in _sharing_a_weight(self.model):  # as it packs weights for a CPU's kernels
                layer.quant_method.process_weights_after_loading(layer)

        def shutdown(self) -> None:
            pass

    WeightTransferEngineFactory.register_engine(NAME, FromFile)


@ray.remote
class TransferHost:
    """One process with one engine; vLLM changes the process it runs in."""

    def start(self, folder: str, **engine_kwargs: Any) -> None:
        from sfpo_rllib.env_runners.engines import make_engine

        if "weight_transfer_config" in engine_kwargs:
            register()
        self.engine: Any = make_engine(
            "vllm",
            gpu_share=0.0,
            model=folder,
            dtype="float32",
            stop_token_ids=[1],
            max_model_len=128,
            kv_cache_memory_bytes=1 << 26,
            max_num_seqs=16,
            **engine_kwargs,
        )

    def send(self, folder: str, weights: dict[str, torch.Tensor]) -> None:
        save_file(weights, Path(folder) / "sent.safetensors")

    def receive(self, init_info: Any, update_info: Any) -> str | None:
        """What was raised."""
        try:
            self.engine.receive_weights(init_info, update_info)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def load(self, payload: Any) -> None:
        from sfpo_rllib.rl_modules.weights import unpack_weights

        self.engine.load_weights(unpack_weights(payload, copy=False))

    def logprobs(
        self, token_ids: Sequence[Sequence[int]], prompt_lens: Sequence[int]
    ) -> list[np.ndarray] | str:
        from sfpo_rllib.env_runners.engines import SamplingSettings

        try:
            return self.engine.logprobs(token_ids, prompt_lens, SamplingSettings())
        except RuntimeError as error:
            return str(error)

    def world_size(self) -> int:
        return self.engine._engine.vllm_config.parallel_config.world_size

    def close(self) -> None:
        self.engine.close()
