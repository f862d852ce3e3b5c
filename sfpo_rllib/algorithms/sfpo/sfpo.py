"""SFPO: GRPO whose update repositions before it corrects (arXiv 2510.04072)."""

from collections.abc import Collection, Iterator
from typing import Any, Self

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import PartialAlgorithmConfigDict

from sfpo_rllib.algorithms.grpo.grpo import GRPO
from sfpo_rllib.algorithms.grpo.grpo_config import GRPOConfig
from sfpo_rllib.core.checks import none, one_of, problems_of, renamed, value_problems
from sfpo_rllib.core.update_rules import SlowFast, UpdateRule
from sfpo_rllib.core.update_rules.passes import PASS_SETTINGS

_SHARED: dict[str, Any] = {
    "fast_steps": 3,
    "reposition_alpha": 0.8,
    "fast_minibatches": None,
    "fast_fraction": 1.0,
    "slow_minibatches": None,
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
    """Configures SFPO on a language model: GRPO with the rule "slow_fast", its trigger on.

    ```python
    from ray import tune
    from sfpo_rllib import SFPOConfig

    config = (
        SFPOConfig()
        .environment("sfpo_envs:sfpo/Arithmetic-v0", env_config={"num_digits": 2})
        .rl_module(model_config={"model": "path/to/model"})
        .training(preset="paper", reposition_alpha=tune.grid_search([0.5, 0.8, 1.0]))
    )
    tune.Tuner("SFPO", param_space=config).fit()
    ```
    """

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or SFPO)
        self.update_rule = "slow_fast"
        self.fast_steps = 3
        self.reposition_alpha = 0.8
        self.fast_minibatches: int | None = None
        self.fast_fraction = 1.0
        self.slow_minibatches: int | None = None
        self.entropy_z_threshold = 1.0
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
        fast_minibatches: int | None = NotProvided,
        fast_fraction: float = NotProvided,
        slow_minibatches: int | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training settings.

        Args:
            preset: "paper" or "official_repo": sets the update keys of `PRESETS`. Keys given in
                the same call or a later one win.
            fast_steps: K, the number of fast passes.
            reposition_alpha: Where between the start (0) and the end (1) of the fast trajectory
                the slow pass begins. 0 is GRPO, 0.8 the paper's; 0.3 with `minibatches_per_pass=4`
                is its best in docs/update_rules.md.
            fast_minibatches: Optimizer steps of a fast pass. None: `minibatches_per_pass`.
            fast_fraction: Share of the batch's groups that a fast pass is over; they take turns.
            slow_minibatches: Optimizer steps of the slow pass. None: `minibatches_per_pass`.
            kwargs: Of `GRPOConfig.training()`, among them the trigger's `entropy_window` and
                `entropy_z_threshold`.
        """
        own = {
            "fast_steps": fast_steps,
            "reposition_alpha": reposition_alpha,
            "fast_minibatches": fast_minibatches,
            "fast_fraction": fast_fraction,
            "slow_minibatches": slow_minibatches,
        }
        given = {name: value for name, value in own.items() if value is not NotProvided}
        if preset is not NotProvided:
            self.preset = preset
            self.preset_overrides = None if preset is None or isinstance(preset, str) else []
            self._apply_preset(keep=())
        if self.preset_overrides is not None:
            self.preset_overrides += [*given, *kwargs]
        super().training(**kwargs)
        return self.set_given(given)

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
            if any(getattr(self, name) is not None for name in self.one_of_two if name in keep):
                keep = [*keep, *self.one_of_two]
            for name, value in PRESETS.get(self.preset, {}).items():
                if name not in keep:
                    setattr(self, name, value)

    @override(GRPOConfig)
    def cheap_problems(self) -> Iterator[str]:
        yield from super().cheap_problems()
        yield from value_problems(self, {"preset": none() | one_of(*sorted(PRESETS))})

    @override(GRPOConfig)
    def update_rule_problems(self) -> list[str]:
        another = (
            f"update_rule={self.update_rule!r}: must be 'slow_fast' in SFPO, set by fast_steps and "
            "reposition_alpha; GRPOConfig takes any rule"
        )
        return [
            *([another] if self.update_rule != "slow_fast" else []),
            *renamed(problems_of(self.make_update_rule), alpha="reposition_alpha"),
        ]

    @override(GRPOConfig)
    def make_update_rule(self) -> UpdateRule:
        passes = {name: getattr(self, name) for name in PASS_SETTINGS}
        return SlowFast(fast_steps=self.fast_steps, alpha=self.reposition_alpha, **passes)


class SFPO(GRPO):
    """GRPO with the slow-fast update: objective and rollouts stay as they are."""

    @classmethod
    @override(GRPO)
    def get_default_config(cls) -> SFPOConfig:
        return SFPOConfig()
