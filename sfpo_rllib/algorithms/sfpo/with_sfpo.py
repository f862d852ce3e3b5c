"""SFPO on any RLlib algorithm that trains with a TorchLearner."""

import math
from functools import partial
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import ALL_MODULES
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.slow_fast import Reposition, check_slow_fast, slow_fast_update

SETTINGS = "sfpo"


def with_sfpo(
    config: AlgorithmConfig,
    *,
    fast_steps: int = 3,
    reposition_alpha: float = 0.8,
    entropy_window: int | None = None,
    entropy_z_threshold: float = 1.0,
) -> AlgorithmConfig:
    """Returns a copy of `config` whose learner repositions before it corrects.

    "The batch" is what the learner takes one gradient step on, its mini-batch: each becomes
    `fast_steps` + 1 gradient steps. The settings live in the learner config
    (`config.learner_config_dict["sfpo"]`), where Tune can reach them.

    Args:
        config: Of an algorithm with a TorchLearner, e.g. PPOConfig. Left alone.
        fast_steps: K.
        reposition_alpha: alpha, in [0, 1].
        entropy_window: w of the entropy trigger. None: no trigger.
        entropy_z_threshold: z-score from which on SFPO is switched off for good.

    Returns:
        The new config.

    Raises:
        ValueError: If a setting is out of range, or the learner is not a TorchLearner.
    """
    check_slow_fast(fast_steps=fast_steps, alpha=reposition_alpha)
    if entropy_window is not None:
        EntropyTrigger(window=entropy_window, threshold=entropy_z_threshold)
    base = config.learner_class
    if not (isinstance(base, type) and issubclass(base, TorchLearner)):
        raise ValueError(f"learner_class={base!r}: must be a TorchLearner")
    settings = {
        "fast_steps": fast_steps,
        "alpha": reposition_alpha,
        "entropy_window": entropy_window,
        "entropy_z_threshold": entropy_z_threshold,
    }
    learner_class = type(f"SlowFast{base.__name__}", (SlowFastLearnerMixin, base), {})
    return config.copy(copy_frozen=False).learners(
        learner_class=learner_class,
        learner_config_dict={**config.learner_config_dict, SETTINGS: settings},
    )


class SlowFastLearnerMixin(TorchLearner):
    """Turns each gradient step of the learner to its right into a slow-fast update."""

    @override(TorchLearner)
    def build(self) -> None:
        self._trigger: EntropyTrigger | None = None
        settings = self._slow_fast_settings
        if settings["entropy_window"] is not None:
            self._trigger = EntropyTrigger(
                window=settings["entropy_window"], threshold=settings["entropy_z_threshold"]
            )
        super().build()

    @property
    def _slow_fast_settings(self) -> dict[str, Any]:
        return self.config.learner_config_dict[SETTINGS]

    @override(TorchLearner)
    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        settings = self._slow_fast_settings
        fired = self._trigger is not None and self._trigger.fired
        reposition = Reposition(displacement_norm=0.0, pull_back_norm=0.0)

        def keep(measures: Reposition) -> None:
            nonlocal reposition
            reposition = measures

        results = slow_fast_update(
            (param for param in self._params.values() if param.requires_grad),
            partial(super()._update, batch, **kwargs),
            fast_steps=settings["fast_steps"],
            alpha=0.0 if fired else settings["alpha"],
            on_reposition=keep,
        )
        values = {"active": float(len(results) > 1), **vars(reposition)}
        if self._trigger is not None:
            entropy = self._mean_entropy(batch, results[-1][0])
            self._trigger.update(entropy)
            z = self._trigger.z
            values |= {"entropy": entropy, "entropy_z": math.nan if z is None else z}
        for name, value in values.items():
            self.metrics.log_value((ALL_MODULES, SETTINGS, name), value, window=1)
        return results[-1]

    @torch.no_grad()
    def _mean_entropy(self, batch: dict[str, Any], fwd_out: dict[str, Any]) -> float:
        """Mean entropy of the policies' action distributions over all learners, nats."""
        sums = torch.zeros(2, dtype=torch.float64)
        for module_id, out in fwd_out.items():
            if Columns.ACTION_DIST_INPUTS not in out:
                raise ValueError(
                    "entropy_window: must be None, as this algorithm's modules have no action "
                    "distribution whose entropy the trigger could watch"
                )
            dist_class = self.module[module_id].unwrapped().get_train_action_dist_cls()
            entropy = dist_class.from_logits(out[Columns.ACTION_DIST_INPUTS]).entropy()
            mask = batch[module_id].get(Columns.LOSS_MASK)
            mask = torch.ones_like(entropy) if mask is None else mask.to(entropy.dtype)
            sums += torch.stack([(entropy * mask).sum(), mask.sum()]).double().cpu()
        if self.config.num_learners > 1:
            sums = sums.to(self._device)
            torch.distributed.all_reduce(sums)
        return float(sums[0] / sums[1])

    @override(TorchLearner)
    def get_state(self, components: Any = None, **kwargs: Any) -> StateDict:
        state = super().get_state(components, **kwargs)
        not_components = kwargs.get("not_components")
        if self._trigger is not None and self._check_component(
            SETTINGS, components, not_components
        ):
            state[SETTINGS] = self._trigger.state_dict()
        return state

    @override(TorchLearner)
    def set_state(self, state: StateDict) -> None:
        super().set_state(state)
        if self._trigger is not None and SETTINGS in state:
            self._trigger.load_state_dict(state[SETTINGS])
