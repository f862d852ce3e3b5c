"""How a learner comes by its weights, and hands them on to the engines."""

import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.rl_modules.loading import read_once


class WeightsLearner(TorchLearner):
    """The first of several learners reads the checkpoint, and the others get the weights from it.

    A module that cannot be built without weights reads them itself.
    """

    @override(Learner)
    def _make_module(self) -> MultiRLModule:
        if self.config.num_learners <= 1:
            return super()._make_module()
        with read_once(is_first=torch.distributed.get_rank() == 0):
            return super()._make_module()

    @override(TorchLearner)
    def _map_module_to_device(self, module: MultiRLModule) -> None:
        rl_module = module[DEFAULT_MODULE_ID]
        if getattr(rl_module, "is_read_once", False):
            rl_module.fill(self._device)
        super()._map_module_to_device(module)

    def pack_weights(self) -> int:
        """Holds what the engines load until `take_packed_weights()`; returns its version."""
        state = self.get_state(COMPONENT_RL_MODULE, inference_only=True)
        self._packed_weights = state[COMPONENT_RL_MODULE]
        return int(state[WEIGHTS_SEQ_NO])

    def take_packed_weights(self) -> StateDict:
        """What `pack_weights()` holds: the state of the modules."""
        weights, self._packed_weights = self._packed_weights, {}
        return weights
