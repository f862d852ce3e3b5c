"""The adapter that a vLLM engine serves."""

import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from sfpo_rllib.rl_modules.lora import write_adapter


class Adapter:
    """The one adapter that an engine serves. vLLM reads it from a folder, at each load anew.

    Attributes:
        request: What a request that wants the adapter carries; None before the first load, when
            the adapter would change nothing.
    """

    def __init__(self, settings: Mapping[str, Any], model: str) -> None:
        self._settings, self._model = settings, model
        self._folder = tempfile.TemporaryDirectory(prefix="sfpo_adapter_")
        self.request: Any = None

    def load(self, engine: Any, weights: Mapping[str, torch.Tensor]) -> None:
        """Puts the weights in the place of those before, under the same id."""
        from vllm.lora.request import LoRARequest

        folder = self._folder.name
        write_adapter(folder, weights, self._settings, base_model=self._model)
        if not engine.add_lora(LoRARequest("policy", 1, folder, load_inplace=True)):
            raise RuntimeError("vLLM did not load the adapter")
        # Without load_inplace, with which every request would read the folder again.
        self.request = LoRARequest("policy", 1, folder)

    def close(self) -> None:
        """Removes the folder."""
        self._folder.cleanup()
