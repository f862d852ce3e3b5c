"""Update rules on any RLlib algorithm that trains with a TorchLearner."""

import copy
import dataclasses
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.metrics import ALL_MODULES
from ray.rllib.utils.typing import StateDict

from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.update_rules import UPDATE_RULES, UpdateRule, make_update_rule, rule_name
from sfpo_rllib.core.updater import Updater

SETTINGS = "sfpo"
_TRIGGER = ("entropy_window", "entropy_z_threshold")


def with_update_rule(
    config: AlgorithmConfig,
    update_rule: str | UpdateRule,
    *,
    entropy_window: int | None = None,
    entropy_z_threshold: float = 1.0,
) -> AlgorithmConfig:
    """Returns a copy of `config` whose learner updates by the rule.

    "The batch" is what the learner takes one gradient step on, its mini-batch, so a pass is one
    gradient step. The settings live in the learner config (`config.learner_config_dict["sfpo"]`:
    the rule's own by name, `entropy_window`, `entropy_z_threshold`), where Tune can reach them.

    Args:
        config: Of an algorithm with a TorchLearner, e.g. PPOConfig. Left alone.
        update_rule: A name, or an instance of one of our rules or of an own one.
        entropy_window: w of the entropy trigger. None: no trigger.
        entropy_z_threshold: z-score from which on the rule is switched off for good.

    Returns:
        The new config.

    Raises:
        ValueError: If a setting is out of range, the learner is not a TorchLearner or has a rule
            already, as ours do, or the rule wants a history: what such an algorithm keeps of a
            batch is not ours to know.
    """
    rule = make_update_rule(update_rule)
    if entropy_window is not None:
        EntropyTrigger(window=entropy_window, threshold=entropy_z_threshold)
    _refuse_history(rule)
    base = config.learner_class
    if not (isinstance(base, type) and issubclass(base, TorchLearner)):
        raise ValueError(f"learner_class={base!r}: must be a TorchLearner")
    if issubclass(base, GRPOTorchLearner):  # a rule within a rule
        raise ValueError(
            f"learner_class={base!r}: has a rule already; use training(update_rule=...)"
        )
    settings: dict[str, Any] = {"update_rule": rule}
    if type(rule) in UPDATE_RULES.values():
        settings = {"update_rule": rule_name(rule), **dataclasses.asdict(rule)}  # type: ignore[call-overload]
    settings |= dict(zip(_TRIGGER, (entropy_window, entropy_z_threshold), strict=True))
    learner_class = type(f"UpdateRule{base.__name__}", (UpdateRuleLearnerMixin, base), {})
    return config.copy(copy_frozen=False).learners(
        learner_class=learner_class,
        learner_config_dict={**config.learner_config_dict, SETTINGS: settings},
    )


def _refuse_history(rule: UpdateRule) -> None:
    if rule.history:
        without = [name for name, cls in UPDATE_RULES.items() if cls.history == 0]
        raise ValueError(
            f"update_rule={rule_name(rule)!r}: keeps {rule.history} earlier batches, which RLlib's "
            f"own algorithms do not support; GRPOConfig does. Here: one of {without}"
        )


class UpdateRuleLearnerMixin(TorchLearner):
    """Turns each gradient step of the learner to its right into an update by the rule."""

    @override(TorchLearner)
    def build(self) -> None:
        settings = dict(self.config.learner_config_dict[SETTINGS])
        window, threshold = (settings.pop(name) for name in _TRIGGER)
        rule = make_update_rule(copy.deepcopy(settings.pop("update_rule")), **settings)
        _refuse_history(rule)  # Tune may have changed the settings
        trigger = None if window is None else EntropyTrigger(window, threshold)
        self._updater: Updater[Any, Any] = Updater(rule, trigger)
        super().build()

    @override(TorchLearner)
    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        plain_update = super()._update
        results, values = self._updater.update(
            batch,
            lambda batch: plain_update(batch, **kwargs),
            parameters=(param for param in self._params.values() if param.requires_grad),
            optimizers=[
                optimizer
                for module_id in self.module.keys()  # noqa: SIM118 (no mapping)
                for _, optimizer in self.get_optimizers_for_module(module_id)
            ],
        )
        if self._updater.trigger is not None:
            entropy = self._mean_entropy(batch, results[-1][0])
            values |= {"entropy": entropy, "entropy_z": self._updater.observe(entropy)}
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
        if self._check_component(SETTINGS, components, kwargs.get("not_components")):
            state[SETTINGS] = self._updater.state_dict()
        return state

    @override(TorchLearner)
    def set_state(self, state: StateDict) -> None:
        super().set_state(state)
        if SETTINGS in state:
            self._updater.load_state_dict(state[SETTINGS])
