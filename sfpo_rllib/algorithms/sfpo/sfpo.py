"""SFPO: GRPO whose update repositions before it corrects (arXiv 2510.04072)."""

from collections.abc import Collection, Iterator
from functools import partial
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import PartialAlgorithmConfigDict

from sfpo_rllib.algorithms.grpo.grpo import GRPO
from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig
from sfpo_rllib.core.entropy_trigger import check_entropy_trigger
from sfpo_rllib.core.slow_fast import check_slow_fast

_SHARED: dict[str, Any] = {
    "fast_steps": 3,
    "reposition_alpha": 0.8,
    "entropy_window": 30,
    "entropy_z_threshold": 1.0,
    "grad_clip": 1.0,
    "minibatch_size": None,
}
# paper: an optimizer step a pass, K + 1 a batch. official_repo: 4 a pass, 12 + 4 a batch at K = 3.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {**_SHARED, "minibatches_per_pass": None},
    "official_repo": {**_SHARED, "minibatches_per_pass": 4},
}


class SFPOConfig(GRPOConfig):
    """Configures SFPO on a language model: GRPO's settings and those of the slow-fast update.

    .. code-block:: python

        from ray import tune
        from sfpo_rllib import SFPOConfig

        config = (
            SFPOConfig()
            .environment("sfpo_envs:sfpo/Arithmetic-v0", env_config={"num_digits": 2})
            .rl_module(model_config={"model": "path/to/model"})
            .training(preset="paper", reposition_alpha=tune.grid_search([0.5, 0.8, 1.0]))
        )
        tune.Tuner("SFPO", param_space=config).fit()
    """

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or SFPO)
        self.fast_steps = 3
        self.reposition_alpha = 0.8
        self.entropy_window = 30
        self.entropy_z_threshold: float | None = 1.0
        self.preset: str | None = None
        # Keys that win over a preset which is not known yet (a Tune search object); else None.
        self.preset_overrides: list[str] | None = None

    @override(GRPOConfig)
    def training(
        self,
        *,
        preset: str | None = NotProvided,
        fast_steps: int = NotProvided,
        reposition_alpha: float = NotProvided,
        entropy_window: int = NotProvided,
        entropy_z_threshold: float | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings.

        Args:
            preset: "paper" or "official_repo": sets the update keys of `PRESETS`. Keys given in
                the same call or a later one win.
            fast_steps: K, the number of fast passes.
            reposition_alpha: Where between the start (0) and the end (1) of the fast trajectory
                the slow pass begins. 0 is GRPO.
            entropy_window: w, the number of entropies the trigger looks at.
            entropy_z_threshold: The z-score from which on SFPO is switched off for good. None:
                never. On flat, noisy entropy w = 30 and 1.0 fire within about 60 iterations.
            kwargs: Of `GRPOConfig.training()`.

        Returns:
            This updated config.
        """
        given = {
            name: value
            for name, value in {
                "fast_steps": fast_steps,
                "reposition_alpha": reposition_alpha,
                "entropy_window": entropy_window,
                "entropy_z_threshold": entropy_z_threshold,
            }.items()
            if value is not NotProvided
        }
        if preset is not NotProvided:
            self.preset = preset
            self.preset_overrides = None if preset is None or isinstance(preset, str) else []
            self._apply_preset(keep=())
        if self.preset_overrides is not None:
            self.preset_overrides += [*given, *kwargs]
        super().training(**kwargs)
        for name, value in given.items():
            setattr(self, name, value)
        return self

    @override(AlgorithmConfig)
    def update_from_dict(self, config_dict: PartialAlgorithmConfigDict) -> Self:
        super().update_from_dict(config_dict)
        if "preset" in config_dict:
            # A whole config brings the preset's keys with it, unless it was searched over.
            keep = config_dict.get("preset_overrides", [*config_dict.keys()])
            if keep is not None:
                self._apply_preset(keep=keep)
        return self

    def _apply_preset(self, *, keep: Collection[str]) -> None:
        if isinstance(self.preset, str):  # an unknown one is validate()'s to report
            for name, value in PRESETS.get(self.preset, {}).items():
                if name not in keep:
                    setattr(self, name, value)

    @override(GRPOConfig)
    def cheap_problems(self) -> Iterator[str]:
        yield from super().cheap_problems()
        if self.preset is not None and self.preset not in PRESETS:
            yield f"preset={self.preset!r}: must be one of {sorted(PRESETS)}"
        checks = {
            "fast_steps": partial(check_slow_fast, fast_steps=self.fast_steps, alpha=0.0),
            "reposition_alpha": partial(check_slow_fast, fast_steps=1, alpha=self.reposition_alpha),
        }
        window, threshold = self.entropy_window, self.entropy_z_threshold
        if threshold is not None:
            checks |= {
                "entropy_window": partial(check_entropy_trigger, window=window, threshold=0.0),
                "entropy_z_threshold": partial(
                    check_entropy_trigger, window=2, threshold=threshold
                ),
            }
        for field, check in checks.items():
            try:
                check()
            except ValueError as error:  # under the core's name for it
                yield f"{field}={str(error).split('=', 1)[1]}"

    @override(GRPOConfig)
    def get_default_learner_class(self) -> type[Learner] | str:
        from sfpo_rllib.algorithms.sfpo.sfpo_torch_learner import SFPOTorchLearner

        return SFPOTorchLearner


class SFPO(GRPO):
    """GRPO with the slow-fast update: objective and rollouts stay as they are."""

    @classmethod
    @override(GRPO)
    def get_default_config(cls) -> SFPOConfig:
        return SFPOConfig()
