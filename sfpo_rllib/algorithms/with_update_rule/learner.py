"""The learner that updates by a rule."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import ALL_MODULES
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.algorithms.with_update_rule.policy_entropy import policy_entropy
from sfpo_rllib.algorithms.with_update_rule.rewindable_metrics import RewindableMetrics
from sfpo_rllib.algorithms.with_update_rule.settings import NO_POLICY, SETTINGS, make_updater
from sfpo_rllib.core.updater import Updater

# What a loss carries on from batch to batch beside the weights, by module (MARWIL's).
CARRIED = ("moving_avg_sqd_adv_norms_per_module",)


class UpdateRuleLearnerMixin(TorchLearner):
    """Turns each gradient step of the learner to its right into an update by the rule.

    What is done once an update stays so, whatever the number of passes: metrics, and what else
    the loss carries on, are those of the last pass alone.
    """

    @override(TorchLearner)
    def build(self) -> None:
        if not hasattr(self, "_updater"):
            self._updater: Updater[Any, Any] = make_updater(
                self.config.learner_config_dict.get(SETTINGS)
            )
            self.metrics = RewindableMetrics(
                stats_cls_lookup=self.config.stats_cls_lookup, root=False
            )
        super().build()

    @override(TorchLearner)
    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        plain_update = super()._update
        carried = {name: dict(getattr(self, name)) for name in CARRIED if hasattr(self, name)}
        with self.metrics.recording() as take_back:

            def run_pass(batch: dict[str, Any], **cut: Any) -> tuple[Any, Any, Any]:
                if cut:  # a rule of the user's own; ours are refused before
                    raise ValueError(
                        f"run_pass(**{cut}): must be run_pass(), as a pass is one gradient step "
                        "on the mini-batch that RLlib has cut"
                    )
                take_back()
                for name, at_start in carried.items():
                    getattr(self, name).clear()
                    getattr(self, name).update(at_start)
                return plain_update(batch, **kwargs)

            results, values = self._updater.update(
                batch,
                run_pass,
                parameters=(param for param in self._params.values() if param.requires_grad),
                optimizers=list(self._optimizer_parameters),
            )
        if self._updater.trigger is not None:
            entropy = self._mean_entropy(batch, results[-1][0])
            values |= {"entropy": entropy, "entropy_z": self._updater.observe(entropy)}
        for name, value in values.items():
            self.metrics.log_value((ALL_MODULES, SETTINGS, name), value, window=1)
        return results[-1]

    @torch.no_grad()
    def _mean_entropy(self, batch: dict[str, Any], fwd_out: dict[str, Any]) -> float:
        """Mean entropy of the policies' action distributions over all learners, nats.

        Raises:
            ValueError: If none of the modules has one.
        """
        sums = torch.zeros(2, dtype=torch.float64)
        entropies = {
            module_id: policy_entropy(self.module[module_id].unwrapped(), outputs)
            for module_id, outputs in fwd_out.items()
        }
        if entropies and all(entropy is None for entropy in entropies.values()):
            trigger = self._updater.trigger
            raise ValueError(f"entropy_window={trigger and trigger.window}: {NO_POLICY}")
        for module_id, entropy in entropies.items():
            if entropy is None:  # e.g. a model of curiosity beside the policies
                continue
            mask = batch[module_id].get(Columns.LOSS_MASK, torch.ones_like(entropy)).bool()
            sums += torch.stack([entropy.where(mask, 0.0).sum(), mask.sum()]).double().cpu()
        if self.config.num_learners > 1:
            sums = sums.to(self._device)
            torch.distributed.all_reduce(sums)
        return float(sums[0] / sums[1])

    @override(TorchLearner)
    def get_state(self, components: Any = None, **kwargs: Any) -> StateDict:
        state = super().get_state(components, **kwargs)
        if self._check_component(SETTINGS, components, kwargs.get("not_components")):
            state[SETTINGS] = self._updater.state_dict()
        return state

    @override(TorchLearner)
    def set_state(self, state: StateDict) -> None:
        super().set_state(state)
        if SETTINGS in state:
            self._updater.load_state_dict(state[SETTINGS])
