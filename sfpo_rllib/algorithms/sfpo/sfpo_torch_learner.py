"""The SFPO learner: GRPO's passes under the slow-fast update."""

import math
from functools import partial

from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import Batch, GRPOTorchLearner, PassMetrics
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.slow_fast import Reposition, slow_fast_update


class SFPOTorchLearner(GRPOTorchLearner):
    """Repositions once a rollout batch: K fast passes, the way back, one slow pass.

    The trigger sees the all-reduced entropy of the last pass, so that all learners switch SFPO
    off at the same batch, and is asked before the next batch's update.
    """

    @override(GRPOTorchLearner)
    def build(self) -> None:
        self._trigger: EntropyTrigger | None = None
        if self.config.entropy_z_threshold is not None:
            self._trigger = EntropyTrigger(
                window=self.config.entropy_window, threshold=self.config.entropy_z_threshold
            )
        super().build()

    @override(GRPOTorchLearner)
    def update_on_batch(self, minibatches: list[list[Batch]]) -> list[PassMetrics]:
        fired = self._trigger is not None and self._trigger.fired
        alpha = 0.0 if fired else self.config.reposition_alpha
        reposition = Reposition(displacement_norm=0.0, pull_back_norm=0.0)

        def keep(measures: Reposition) -> None:
            nonlocal reposition
            reposition = measures

        passes = slow_fast_update(
            (param for param in self._params.values() if param.requires_grad),
            partial(self.run_pass, minibatches),
            fast_steps=self.config.fast_steps,
            alpha=alpha,
            on_reposition=keep,
        )
        z = None
        if self._trigger is not None:
            self._trigger.update(passes[-1]["entropy"])
            z = self._trigger.z
        self._log(
            {
                "active": float(alpha > 0.0),
                "entropy_z": math.nan if z is None else z,  # a key in every result, for CSV files
                **vars(reposition),
            }
        )
        return passes

    @override(GRPOTorchLearner)
    def get_update_state(self) -> StateDict:
        state = super().get_update_state()
        if self._trigger is not None:
            state["trigger"] = self._trigger.state_dict()
        return state

    @override(GRPOTorchLearner)
    def set_update_state(self, state: StateDict) -> None:
        super().set_update_state(state)
        if self._trigger is not None and "trigger" in state:
            self._trigger.load_state_dict(state["trigger"])
