"""What RLlib would call or read and this learner does not: refused, so that nothing is ignored."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ray.rllib.core.rl_module.apis import SelfSupervisedLossAPI

if TYPE_CHECKING:
    from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig

# Hooks of RLlib's learner that give it a loss. A loss of ours is a sum over tokens under weights of
# the whole mini-batch; what these return would depend on how the mini-batch is cut.
LOSS_HOOKS = ("compute_loss_for_module", "compute_losses", "compute_gradients")


def bypassed_problems(config: "GRPOConfig") -> Iterator[str]:
    """What a user has given that the update would pass by."""
    from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner

    learner = config.learner_class
    if not (isinstance(learner, type) and issubclass(learner, GRPOTorchLearner)):
        yield (
            f"learner_class={learner!r}: must be a subclass of GRPOTorchLearner; for another loss "
            "use training(loss=...)"
        )
    else:
        for hook in LOSS_HOOKS:
            if getattr(learner, hook) is not getattr(GRPOTorchLearner, hook):
                yield (
                    f"learner_class={learner!r}: must not override {hook}(), which is never "
                    "called; use training(loss=...)"
                )
    module = getattr(config.rl_module_spec, "module_class", None)
    if isinstance(module, type) and issubclass(module, SelfSupervisedLossAPI):
        yield (
            f"rl_module_spec={module!r}: must not have compute_self_supervised_loss(), which is "
            "never called; use training(loss=...)"
        )
    if config._learner_connector is not None:
        yield (
            f"learner_connector={config._learner_connector!r}: must be None, as it is never "
            "called; use training(advantages=...) or a wrapper of the environment"
        )
    if overrides := config.algorithm_config_overrides_per_module:
        yield (
            f"algorithm_config_overrides_per_module={overrides!r}: must be empty, as there is "
            "one module; set them on the config itself"
        )
    if config.torch_compile_learner:
        yield (
            "torch_compile_learner=True: must be False; the update is none of the methods that "
            "RLlib compiles"
        )
    if config._torch_grad_scaler_class is not None:
        yield (
            f"_torch_grad_scaler_class={config._torch_grad_scaler_class!r}: must be None; losses "
            "are not scaled, as weights and gradients are float32"
        )
