"""A learner's weights as its engines want them, tensor by tensor on its own device."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from torch.distributed.tensor import DTensor

from sfpo_rllib.rl_modules.model_settings import ModelSettings
from sfpo_rllib.rl_modules.weights import checkpoint_format, skeleton


class Described(NamedTuple):
    """One weight, in vLLM's words.

    Attributes:
        name: In checkpoints.
        dtype: That the engines compute in.
        shape: Whole.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class DeviceTensors:
    """The weights of a learner's module; a `WeightSource` to vLLM.

    Of a sharded module all learners must go through them together.
    """

    def __init__(self, learner: Any) -> None:
        """Looks at the module.

        Raises:
            ValueError: If checkpoints name or cut its weights otherwise than it does.
        """
        self._learner = learner
        self._module = learner.module[DEFAULT_MODULE_ID].unwrapped()
        _check_names(self._module, self.metadata())

    @classmethod
    def of(cls, learner: Any) -> "DeviceTensors":
        """Those of a learner, at whose module somebody looks once."""
        if not hasattr(learner, "device_tensors"):
            learner.device_tensors = cls(learner)
        tensors: DeviceTensors = learner.device_tensors
        return tensors

    @property
    def version(self) -> int:
        """How many updates have made them."""
        return int(self._learner.get_state(components=())[WEIGHTS_SEQ_NO])

    def metadata(self) -> list[Described]:
        """What iteration brings."""
        weights = self._module.own_weights()
        dtype = self._module.compute_dtype
        return [Described(name, dtype, tuple(tensor.shape)) for name, tensor in weights.items()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._module.own_weights().items():
            cast = tensor.to(self._module.compute_dtype)
            yield name, cast.full_tensor() if isinstance(cast, DTensor) else cast

    def update_info(self) -> dict[str, Any]:
        """What an engine must know of them before it gets them."""
        described = self.metadata()
        return {
            "names": [weight.name for weight in described],
            "dtype_names": [str(weight.dtype).removeprefix("torch.") for weight in described],
            "shapes": [list(weight.shape) for weight in described],
        }


def _check_names(module: Any, described: list[Described]) -> None:
    """Raises a ValueError unless the weights are already as a checkpoint has them."""
    config = module.model_config
    source = ModelSettings.of(config).source
    made = skeleton(config["model"], dtype=module.compute_dtype, **source)
    there = checkpoint_format(made, made.state_dict(), module.compute_dtype)
    wanted = {name: tuple(tensor.shape) for name, tensor in there.items()}
    if wanted != {weight.name: weight.shape for weight in described}:
        raise ValueError(
            "weight_transport: must be 'object_store' for a "
            f"{made.config.model_type!r} model, of which checkpoints name or cut weights otherwise "
            "than transformers does"
        )
